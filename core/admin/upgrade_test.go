package admin

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// swap is an Upgrader that does what a test says.
type swap func(context.Context, UpgradeOrder, time.Duration, func(UpgradeProgress)) (Upgraded, error)

func (f swap) Upgrade(
	ctx context.Context, o UpgradeOrder, trial time.Duration, report func(UpgradeProgress),
) (Upgraded, error) {
	return f(ctx, o, trial, report)
}

func TestUpgrade(t *testing.T) {
	s := serve(t, shortTemp(t))
	if _, err := s.client.Upgrade(t.Context(), UpgradeOrder{Plugin: "file"}, nil); err == nil || err.Error() != ErrNotRunning.Error() {
		t.Errorf("without a host: %v", err)
	}
	order := UpgradeOrder{Plugin: "sink-file", Program: "/x", Dev: true, NoWait: true, TrialMS: 1500}
	result := Upgraded{
		Plugin: "sink-file", From: PluginProgram{"1.0.0", "aa", "/old", false}, To: PluginProgram{"1.1.0", "bb", "/x", true},
		Blocks: []string{"a", "b"}, Drained: true, Notes: []string{"n"}, Restart: "r",
	}
	var got UpgradeOrder
	s.direct.Upgrader = swap(func(_ context.Context, o UpgradeOrder, trial time.Duration, report func(UpgradeProgress)) (Upgraded, error) {
		if got = o; trial != 1500*time.Millisecond {
			t.Errorf("trial %s", trial)
		}
		report(UpgradeProgress{"opening", 1, 2})
		report(UpgradeProgress{"moved", 2, 2})
		return result, nil
	})
	var stages []string
	done, err := s.client.Upgrade(t.Context(), order, func(p UpgradeProgress) { stages = append(stages, p.Stage) })
	if diff := cmp.Diff(result, done); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if diff := cmp.Diff(order, got); diff != "" {
		t.Errorf("the order does not travel whole (-sent +received):\n%s", diff)
	}
	if !slices.Equal(stages, []string{"opening", "moved"}) {
		t.Errorf("stages %q", stages)
	}

	// Errors before and after the first line.
	for _, begun := range []bool{false, true} {
		for _, fails := range []error{
			&UpgradeError{Reason: "misfit", Problems: []string{"p", "q"}, Misfit: true}, &UpgradeError{Reason: "back", RolledBack: true},
			errors.New("plain"),
		} {
			s.direct.Upgrader = swap(func(_ context.Context, _ UpgradeOrder, _ time.Duration, report func(UpgradeProgress)) (Upgraded, error) {
				if begun {
					report(UpgradeProgress{Stage: "checking"})
				}
				return Upgraded{}, fails
			})
			_, err := s.client.Upgrade(t.Context(), order, nil)
			if err == nil || err.Error() != fails.Error() {
				t.Errorf("begun %v: %v, want %v", begun, err, fails)
			}
			var want, told *UpgradeError
			if errors.As(fails, &want) && (!errors.As(err, &told) || !cmp.Equal(want, told)) {
				t.Errorf("begun %v: %+v, want %+v", begun, told, want)
			}
		}
	}

	// Who hangs up is heard.
	heard := make(chan struct{})
	s.direct.Upgrader = swap(func(ctx context.Context, _ UpgradeOrder, _ time.Duration, report func(UpgradeProgress)) (Upgraded, error) {
		report(UpgradeProgress{Stage: "moved"})
		<-ctx.Done()
		close(heard)
		return Upgraded{}, ctx.Err()
	})
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := s.client.Upgrade(ctx, order, func(UpgradeProgress) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Errorf("hung up: %v", err)
	}
	<-heard
}

func TestUpgradeCalls(t *testing.T) {
	s := serve(t, shortTemp(t))
	s.direct.Upgrader = swap(func(context.Context, UpgradeOrder, time.Duration, func(UpgradeProgress)) (Upgraded, error) {
		t.Error("a bad order came through")
		return Upgraded{}, nil
	})
	for _, body := range []string{
		"", "[]", `{"plugin": 1}`, `{"plugins": "x"}`, "{}", `{"plugin":"x","version":"1.0.0","program":"/x"}`, `{"plugin":"x","dev":true}`,
		`{"plugin":"x","trial_ms":-1}`,
	} {
		resp, err := s.http.Post("http://grapnel/v1/plugins/upgrade", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if resp.Body.Close(); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %s", body, resp.Status)
		}
	}
}
