package main

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/grapnelhq/grapnel/core/config"
	"github.com/grapnelhq/grapnel/core/doctor"
)

func TestFindings(t *testing.T) {
	all := []doctor.Finding{
		{Check: "clock", Severity: doctor.OK, What: "it is late"},
		{Check: "sinks", Severity: doctor.Warning, What: "it is \x1b[31mpaused", Where: "sink a", Advice: "resume <it>"},
		{Check: "disk", Severity: doctor.Problem, What: "full", Where: "/data", Advice: "make room"},
	}
	for asJSON, want := range map[bool]string{
		false: `ok       clock          it is late
warning  sinks          sink a: it is  [31mpaused
                        → resume <it>
problem  disk           /data: full
                        → make room
1 problem, 1 warning
`,
		true: `{"check":"clock","severity":"ok","what":"it is late"}
{"check":"sinks","severity":"warning","what":"it is \u001b[31mpaused","where":"sink a","advice":"resume <it>"}
{"check":"disk","severity":"problem","what":"full","where":"/data","advice":"make room"}
`,
	} {
		var out bytes.Buffer
		if err := (printer{out: &out, json: asJSON}).findings(all); err != nil || out.String() != want {
			t.Errorf("%v\n%s\nwant\n%s", err, out.String(), want)
		}
	}
}

// TestPort finds a port that is free, and one that somebody has.
func TestPort(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	x := &examination{}
	p := x.port("server.listen", ln.Addr().String())
	if p.Err == nil || p.Ours {
		t.Errorf("%+v", p)
	}
	x.running, x.pid = true, os.Getpid()
	if p := x.port("server.listen", ln.Addr().String()); !p.Ours || p.Holder == "" && runtime.GOOS == "linux" {
		t.Errorf("%+v", p)
	}
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if p := x.port("server.listen", ln.Addr().String()); p.Err != nil {
		t.Errorf("%+v", p)
	}
}

// TestSkew compares the clock with that of a far end, and shows it no path.
func TestSkew(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" || r.Method != http.MethodHead {
			t.Errorf("%s %s", r.Method, r.URL)
		}
		w.Header().Set("Date", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))
	}))
	defer s.Close()
	far := farEnd(&config.Config{Sinks: []config.Sink{
		{Config: []byte(`{"dir":"x"}`)}, {Config: []byte(`{"a":1,"url":"` + s.URL + `/secret?x"}`)},
	}})
	d, err := skew(context.Background(), far)
	if err != nil || (d-time.Hour).Abs() > 30*time.Second {
		t.Errorf("%s: %s, %v", far, d, err)
	}
}
