package main

import (
	"testing"

	"github.com/grapnelhq/grapnel/core/alert"
	"github.com/grapnelhq/grapnel/core/config"
	"github.com/grapnelhq/grapnel/core/pluginhost"
)

func TestAdminLink(t *testing.T) {
	local, tls := config.Admin{Listen: "127.0.0.1:8081"}, config.Admin{Listen: "10.0.0.7:8443", TLS: &config.TLS{}}
	for _, c := range []struct {
		admin config.Admin
		event alert.Event
		want  string
	}{
		{local, alert.Event{Condition: alert.SinkParked, Kind: "sink", Name: "audit"}, "http://127.0.0.1:8081/sinks/audit"},
		{tls, alert.Event{Condition: alert.OldestWaiting, Kind: "sink", Name: "audit"}, "https://10.0.0.7:8443/sinks/audit"},
		{local, alert.Event{Condition: alert.DeadLetters, Kind: "sink", Name: "audit"}, "http://127.0.0.1:8081/dead?sink=audit"},
		{
			config.Admin{Listen: ":8081", Hosts: []string{"grapnel.example.com"}},
			alert.Event{Condition: alert.SourceSilent, Kind: "source", Name: "hr"},
			"https://grapnel.example.com/requests?source=hr",
		},
		{
			config.Admin{Listen: ":8081", Hosts: []string{"2001:db8::1"}},
			alert.Event{Condition: alert.RejectedSignatures, Kind: "source", Name: "hr"},
			"https://[2001:db8::1]/rejections?source=hr",
		},
		{local, alert.Event{Condition: alert.PluginFailed, Kind: "plugin", Name: "sink-file"}, "http://127.0.0.1:8081/plugins"},
		{local, alert.Event{Condition: alert.DeadLetters, Kind: "sink", Name: "test", Test: true}, "http://127.0.0.1:8081/alerts"},
		{config.Admin{Listen: "[::]:8081"}, alert.Event{}, ""},
		{config.Admin{Listen: ":8081"}, alert.Event{}, ""},
		{config.Admin{}, alert.Event{}, ""},
	} {
		if got := adminLink(c.admin, &c.event); got != c.want {
			t.Errorf("%+v, %+v: %q, want %q", c.admin, c.event, got, c.want)
		}
	}
}

func TestAlertPlugins(t *testing.T) {
	got := alertPlugins([]pluginhost.ProcessStatus{
		{Kind: "sink", Plugin: "file", State: pluginhost.Draining}, {Kind: "sink", Plugin: "file", State: pluginhost.Ready},
		{Kind: "sink", Plugin: "http", State: pluginhost.Ready}, {Kind: "sink", Plugin: "http", State: pluginhost.Failed},
		{Kind: "sink", Plugin: "http", State: pluginhost.Ready}, {Kind: "sink", Plugin: "crm", State: pluginhost.Backoff},
	})
	want := []alert.Plugin{
		{Name: "sink-file", State: alert.PluginWorks}, {Name: "sink-http", State: alert.PluginHasFailed}, {Name: "sink-crm"},
	}
	if len(got) != len(want) {
		t.Fatalf("%+v", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%+v, want %+v", got[i], want[i])
		}
	}
}
