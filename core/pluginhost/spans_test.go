package pluginhost

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/sdk"
	pluginv1 "github.com/grapnelhq/grapnel/sdk/proto/grapnel/plugin/v1"
	"github.com/grapnelhq/grapnel/sdk/wire"
)

const sampledParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func TestSpansAreNotTrusted(t *testing.T) {
	p := deafProcess(validDecoder())
	p.redact = newRedactor([]string{"the secret of a block"})
	id := []byte("12345678")
	in := []*pluginv1.Span{
		{Id: id, Name: "decode", Start: 1e9, Duration: 5, Failed: true},
		{Id: []byte("abcdefgh"), ParentId: id, Name: "says the secret of a block\n" + strings.Repeat("x", 100)},
		{Id: []byte("short"), Name: "x"}, {Id: make([]byte, 8), Name: "x"}, {Name: "x"}, {Id: id},
		{Id: id, ParentId: []byte("short"), Name: "x"}, {Id: id, Name: "x", Duration: -1}, nil,
	}
	got := p.spans(sampledParent, in)
	want := []core.Span{{Span: sdk.Span{
		ID: [8]byte(id), Name: "decode", Start: time.Unix(1, 0).UTC(), Took: 5, Failed: true,
	}}, {Span: sdk.Span{ID: [8]byte([]byte("abcdefgh")), Parent: [8]byte(id), Start: time.Unix(0, 0).UTC()}}}
	for i := range want {
		want[i].Plugin, want[i].Version = "grapnel-decoder-"+p.info.Name, p.info.Version
	}
	if len(got) == 2 {
		if name := got[1].Name; strings.Contains(name, "secret of") || len(name) > wire.MaxSpanName+len("…") {
			t.Errorf("the name %q", name)
		}
		got[1].Name = ""
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, parent := range []string{"", sampledParent[:53] + "00"} {
		if got := p.spans(parent, in); got != nil {
			t.Errorf("%q: %v", parent, got)
		}
	}
	many := make([]*pluginv1.Span, 1000)
	for i := range many {
		many[i] = in[0]
	}
	if got := p.spans(sampledParent, many); len(got) != wire.MaxSpans {
		t.Errorf("%d spans", len(got))
	}
}

func FuzzSpans(f *testing.F) {
	b, err := proto.Marshal(&pluginv1.Span{Id: []byte("12345678"), ParentId: []byte("abcdefgh"), Name: "x", Start: 1, Duration: 1})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	p := deafProcess(validDecoder())
	f.Fuzz(func(t *testing.T, b []byte) {
		var m pluginv1.Span
		if proto.Unmarshal(b, &m) != nil {
			return
		}
		for _, s := range p.spans(sampledParent, []*pluginv1.Span{&m}) {
			if s.ID == [8]byte{} || s.Took < 0 || s.Name == "" || strings.ContainsAny(s.Name, "\n\x00\x1b") {
				t.Errorf("%+v", s)
			}
		}
	})
}

// What a call carries does not stay in the messages that are used again.
func TestCallTraceIsOfOneCall(t *testing.T) {
	d := testDecoder()
	r := testRequest("{}")
	r.CallTrace = sampledParent
	i := d.at.Load()
	i.p.h.callContext.Store(&pluginv1.CallContext{})
	d.calls.New = func() any { return &decodeCall{} }
	call := d.fill(i, []*core.Request{r}, "i")
	if got := call.requests[0].GetTraceparent(); got != sampledParent {
		t.Errorf("the call carries %q", got)
	}
	d.done(call)
	if got := call.requests[0].GetTraceparent(); got != "" {
		t.Errorf("the message keeps %q", got)
	}
}
