package scaffold

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/semver"
)

// source is where a plugin has the sdk from: one of the two.
type source struct {
	dir     string // the root of a checkout, absolute
	inside  bool   // the plugin lies in it
	version string // a release, with v
}

func findSDK(o Options) (source, error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return source{}, err
	}
	above := checkoutAbove(dir)
	switch {
	case o.SDK == "" && above != "":
		return source{dir: above, inside: true}, nil
	case o.SDK == "" && release("v"+o.Version):
		return source{version: "v" + o.Version}, nil
	case o.SDK == "":
		return source{}, fmt.Errorf("this grapnel is no release (its version is %s), and %s lies in no checkout of Grapnel: "+
			"name one with --sdk DIR, or a released version of the sdk with --sdk v1.2.0", o.Version, o.Dir)
	case release(o.SDK):
		return source{version: o.SDK}, nil
	}
	named, err := filepath.Abs(o.SDK)
	if err != nil {
		return source{}, err
	}
	if isSDK(named) {
		named = filepath.Dir(named)
	}
	if !isSDK(filepath.Join(named, "sdk")) {
		return source{}, fmt.Errorf("--sdk %s is neither a checkout of Grapnel nor a version such as v1.2.0", o.SDK)
	}
	return source{dir: named, inside: named == above}, nil
}

// release reports whether v is a version that a module can be required in.
func release(v string) bool {
	return semver.Canonical(v) == v && v != "" && !strings.HasSuffix(v, "-dev")
}

// checkoutAbove finds the checkout that a folder lies in, or "".
func checkoutAbove(dir string) string {
	for {
		if isSDK(filepath.Join(dir, "sdk")) {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			return ""
		}
		dir = up
	}
}

func isSDK(dir string) bool {
	text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	return err == nil && modfile.ModulePath(text) == sdkModule
}

// module makes go.mod and go.sum. With a checkout they are those of its example, which depends on the sdk alone, as the
// plugin does; so they are complete without asking anybody. With a release there is no go.sum yet.
func (s source) module(o Options) (goMod, goSum []byte, err error) {
	if s.version != "" {
		return fmt.Appendf(nil, "module %s\n\ngo 1.26.0\n\nrequire %s %s\n", o.Module, sdkModule, s.version), nil, nil
	}
	example := filepath.Join(s.dir, "examples", "sink-chat")
	text, err := os.ReadFile(filepath.Join(example, "go.mod"))
	if err != nil {
		return nil, nil, fmt.Errorf("the checkout of Grapnel is not complete: %w", err)
	}
	f, err := modfile.Parse("go.mod", text, nil)
	if err != nil {
		return nil, nil, err
	}
	to := filepath.Join(s.dir, "sdk")
	if s.inside {
		rel, err := between(o.Dir, to)
		if err != nil {
			return nil, nil, err
		}
		to = rel
		if !strings.HasPrefix(to, "../") {
			return nil, nil, errors.New("a plugin does not lie in the sdk")
		}
	}
	if err := errors.Join(f.AddModuleStmt(o.Module), f.DropReplace(sdkModule, ""), f.AddReplace(sdkModule, "", to, "")); err != nil {
		return nil, nil, err
	}
	f.Cleanup()
	if goMod, err = f.Format(); err != nil {
		return nil, nil, err
	}
	if goSum, err = os.ReadFile(filepath.Join(example, "go.sum")); err != nil {
		return nil, nil, fmt.Errorf("the checkout of Grapnel is not complete: %w", err)
	}
	return goMod, bytes.Clone(goSum), nil
}
