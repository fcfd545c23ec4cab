package serve

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/grapnelhq/grapnel/sdk"
	pluginv1 "github.com/grapnelhq/grapnel/sdk/proto/grapnel/plugin/v1"
	"github.com/grapnelhq/grapnel/sdk/wire"
)

// inProcess serves a factory over a socket inside of the test.
func inProcess[F Factory](t *testing.T, factory F) *wire.Client {
	t.Helper()
	s := New(factory, "1.2.3")
	g := grpc.NewServer(s.ServerOptions(nil)...)
	s.Register(g)
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := g.Serve(l); err != nil {
			t.Error(err)
		}
	}()
	conn, err := grpc.NewClient("unix:"+socket,
		append(wire.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		g.Stop()
		<-served
	})
	return wire.NewClient(conn)
}

func openConfig(t *testing.T, w *wire.Client, config string) (*pluginv1.OpenResponse, error) {
	t.Helper()
	return w.Plugin.Open(t.Context(), &pluginv1.OpenRequest{Instance: "i", Name: "block", Config: []byte(config)})
}

func mustOpen(t *testing.T, w *wire.Client, config string) {
	t.Helper()
	if r, err := openConfig(t, w, config); err != nil || len(r.Errors) > 0 || r.Unavailable != "" {
		t.Fatalf("open: %v, %v", r, err)
	}
}

func TestDescribe(t *testing.T) {
	m, err := inProcess(t, echoFactory()).Plugin.Describe(t.Context(), &pluginv1.DescribeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	d, err := wire.DescriptionFromProto(m)
	if err != nil {
		t.Fatal(err)
	}
	if d.Name != "echo" || d.Version != "1.2.3" || d.Sink.MaxBatch != 1 || d.Config.Attribute("prefix") == nil ||
		d.Message.Attribute("text") == nil || len(d.Capabilities) != 2 {
		t.Errorf("got %+v", d)
	}
}

func TestABrokenManifestIsNamed(t *testing.T) {
	p := sdk.Provider{Name: "x", Schemes: []sdk.Scheme{{Name: "hmac", HMAC: &sdk.HMAC{Encoding: "HEX"}}}}
	f := sdk.NewDecoder(p, func(context.Context, struct{}) (sdk.Decoder, error) { return decoder{}, nil })
	_, err := inProcess(t, f).Plugin.Describe(t.Context(), &pluginv1.DescribeRequest{})
	if err == nil || !strings.Contains(err.Error(), `scheme hmac encoding: unknown word "HEX"`) {
		t.Errorf("got %v", err)
	}
}

func TestOpenAndValidate(t *testing.T) {
	for _, test := range []struct{ config, errors, unavailable, validate string }{
		{``, "", "", ""},
		{`{"prefix":1}`, "prefix: must be a string, not a number", "", "prefix: must be a string, not a number"},
		{`{"fail":"validate"}`, "fail: asked to", "", "fail: asked to"},
		{`{"fail":"open"}`, "", "far end is down", ""},
		{`{"fail":"open for good"}`, "token: revoked", "", ""},
		{`{"fail":"empty"}`, "", "failed without a reason", ""},
		{`{"fail":"panic in open"}`, "", "panic: oh", ""},
		{`{"fail":"panic in validate"}`, "", "panic: oh", "panic: oh"},
	} {
		w := inProcess(t, echoFactory())
		r, err := openConfig(t, w, test.config)
		if err != nil {
			t.Fatal(err)
		}
		if text(r.Errors) != test.errors || r.Unavailable != test.unavailable {
			t.Errorf("Open %s: %v", test.config, r)
		}
		v, err := w.Plugin.Validate(t.Context(), &pluginv1.ValidateRequest{Config: []byte(test.config)})
		if err != nil {
			t.Fatal(err)
		}
		if text(v.Errors) != test.validate {
			t.Errorf("Validate %s: %v", test.config, v)
		}
		_, err = deliver(t.Context(), w, "", echoMessage{})
		if failed := test.errors+test.unavailable != ""; (status.Code(err) == codes.FailedPrecondition) != failed {
			t.Errorf("Deliver after Open %s: %v", test.config, err)
		}
	}
}

type batchConfig struct {
	Most int `json:"most,omitempty"`
}

func (c batchConfig) MaxBatch() int { return c.Most }

func TestMaxBatch(t *testing.T) {
	w := inProcess(t, sdk.NewBatchSink(sdk.SinkInfo{Name: "batch"},
		func(context.Context, batchConfig) (sdk.BatchSink[echoMessage], error) { return nil, nil }))
	for config, want := range map[string]int32{`{}`: 0, `{"most":7}`: 7, `{"most":"x"}`: 0} {
		v, err := w.Plugin.Validate(t.Context(), &pluginv1.ValidateRequest{Config: []byte(config)})
		if err != nil || v.GetMaxBatch() != want {
			t.Errorf("%s: %v, %v, want %d", config, v, err, want)
		}
	}
}

func text(list []*pluginv1.AttributeError) string {
	var out []string
	for _, e := range wire.AttributeErrorsFromProto(list) {
		out = append(out, e.Error())
	}
	return strings.Join(out, "; ")
}

func TestInstances(t *testing.T) {
	w := inProcess(t, echoFactory())
	mustOpen(t, w, `{"prefix":"1"}`)
	if _, err := openConfig(t, w, ""); status.Code(err) != codes.AlreadyExists {
		t.Errorf("opened twice: %v", err)
	}
	_, err := w.Plugin.Open(t.Context(), &pluginv1.OpenRequest{Instance: "j", Config: []byte(`{"prefix":"2"}`)})
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]string{"i": "1x", "j": "2x"} {
		r, err := w.Sink.Deliver(t.Context(), &pluginv1.DeliverRequest{
			Instance: id, Deliveries: []*pluginv1.Delivery{{Id: "d", Message: []byte(`{"text":"x"}`)}},
		})
		if err != nil || r.Outcomes[0].Reference != want {
			t.Errorf("%s: %v, %v", id, r, err)
		}
	}
	for range 2 {
		if r, err := w.Plugin.Close(t.Context(), &pluginv1.CloseRequest{Instance: "i"}); err != nil || r.Notes != nil {
			t.Errorf("Close: %v, %v", r, err)
		}
	}
	_, err = deliver(t.Context(), w, "", echoMessage{})
	const want = `instance "i" is not open in this process of plugin "echo"`
	if status.Code(err) != codes.FailedPrecondition || status.Convert(err).Message() != want {
		t.Errorf("Deliver after Close: %v", err)
	}
	_, err = w.Plugin.Check(t.Context(), &pluginv1.CheckRequest{Instance: "i"})
	if status.Code(err) != codes.FailedPrecondition {
		t.Errorf("Check after Close: %v", err)
	}
	if _, err := w.Decoder.Decode(t.Context(), &pluginv1.DecodeRequest{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("Decode on a sink: %v", err)
	}
}

func TestCheck(t *testing.T) {
	for fail, want := range map[string]string{"": "", "check": "no permission", "panic in check": "panic: oh"} {
		w := inProcess(t, echoFactory())
		mustOpen(t, w, `{"fail":"`+fail+`"}`)
		r, err := w.Plugin.Check(t.Context(), &pluginv1.CheckRequest{Instance: "i"})
		if err != nil || r.Unavailable != want || r.Errors != nil {
			t.Errorf("%s: %v, %v", fail, r, err)
		}
	}
}

func TestDeadline(t *testing.T) {
	w := inProcess(t, echoFactory())
	mustOpen(t, w, "")
	for _, do := range []string{"wait", "hang"} { // hang takes no notice of its context
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		begun := time.Now()
		o, err := deliver(ctx, w, "", echoMessage{Do: do})
		// The plugin has the same deadline: one that minds it may answer before its caller gives up.
		answered := do == "wait" && err == nil && o.GetKind() == pluginv1.Outcome_KIND_RETRY
		if !answered && status.Code(err) != codes.DeadlineExceeded || time.Since(begun) > 2*time.Second {
			t.Errorf("%s: %v, %v after %v", do, o, err, time.Since(begun))
		}
		cancel()
	}
	// Let go of the one that hangs. The instance cannot be closed before.
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := w.Plugin.Close(ctx, &pluginv1.CloseRequest{Instance: "i"}); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("Close during a call: %v", err)
	}
	close(lastEcho(t).release)
	for deadline := time.Now().Add(5 * time.Second); closedTimes(lastEcho(t)) != 1; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the instance was not closed after its last call")
		}
	}
}

func closedTimes(e *echo) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.closed
}

func TestClose(t *testing.T) {
	for fail, want := range map[string]string{
		"": "", "close": "close: not flushed", "panic in close": "close: panic: oh",
	} {
		w := inProcess(t, echoFactory())
		mustOpen(t, w, `{"fail":"`+fail+`"}`)
		r, err := w.Plugin.Close(t.Context(), &pluginv1.CloseRequest{Instance: "i"})
		if err != nil || strings.Join(wire.NotesFromProto(r.Notes), " ") != want {
			t.Errorf("%s: %v, %v", fail, r, err)
		}
	}
}

type decoder struct{}

func (decoder) Decode(_ context.Context, r *sdk.Request) ([]sdk.Event, error) {
	switch string(r.Body) {
	case "panic":
		panic("oh")
	case "refuse":
		return nil, errors.New("no action")
	}
	return []sdk.Event{{Type: "x.y", Data: json.RawMessage(r.Body[1:3]), Notes: []string{"odd"}}}, nil
}

func TestDecode(t *testing.T) {
	f := sdk.NewDecoder(sdk.Provider{Name: "x"},
		func(context.Context, struct{}) (sdk.Decoder, error) { return decoder{}, nil })
	w := inProcess(t, f)
	mustOpen(t, w, "")
	r, err := w.Decoder.Decode(t.Context(), &pluginv1.DecodeRequest{Instance: "i", Requests: []*pluginv1.Request{
		{Id: "1", Body: []byte("[12]")}, {Id: "2", Body: []byte("panic")}, {Id: "3", Body: []byte("refuse")},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if e := r.Results[0].Events[0]; e.Type != "x.y" || e.DataRange.GetOffset() != 1 || e.DataRange.GetLength() != 2 ||
		r.Results[0].Notes[0].Message != "odd" {
		t.Errorf("got %v", r.Results[0])
	}
	if r.Results[1].Refused != "panic: oh" || r.Results[2].Refused != "no action" || r.Results[2].RequestId != "3" {
		t.Errorf("got %v", r.Results)
	}
	if c, err := w.Plugin.Check(t.Context(), &pluginv1.CheckRequest{Instance: "i"}); err != nil || c.Unavailable != "" {
		t.Errorf("Check of a decoder that has none: %v, %v", c, err)
	}
}

func TestAnInstanceNobodyWaitsForIsClosed(t *testing.T) {
	w := inProcess(t, echoFactory())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := w.Plugin.Open(ctx, &pluginv1.OpenRequest{Instance: "i", Config: []byte(`{"fail":"slow open"}`)})
	if status.Code(err) != codes.DeadlineExceeded {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if e := lastEcho(t); e.cfg.Fail == "slow open" && closedTimes(e) == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("it is still open")
		}
	}
	mustOpen(t, w, "")
}
