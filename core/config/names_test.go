package config

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLoadNames(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a.hcl": `
source "shop" "orders" {
  secrets = [env("NOT_SET")]
}
sink "chat" "team" {
  enabled = false
}
sink "chat" {}
rout "mistake" {}
`,
		"b.hcl": `
route "all" {
  to "nothing" "there" {}
}
route "some" {}
sink "file" "audit" {}
`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := LoadNames(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := Names{Sources: []string{"orders"}, Sinks: []string{"team", "audit"}, Routes: []string{"all", "some"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if got := Nearest("al", want.Routes); got != "all" {
		t.Errorf("near to al is %q", got)
	}
	if got := Nearest("everything", want.Routes); got != "" {
		t.Errorf("near to everything is %q", got)
	}
	if _, err := LoadNames(filepath.Join(dir, "none.hcl"), Options{}); err == nil {
		t.Error("a file that is not there was read")
	}
}
