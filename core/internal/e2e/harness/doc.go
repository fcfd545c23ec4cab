// Package harness runs the real programs for tests: it builds the host and the plugins, starts hosts on folders and
// ports of their own, posts signed webhooks to them, and reads what came of it. It is used by the end-to-end tests of
// `make test` and by those of `make foreign`.
//
//	var programs harness.Programs
//
//	func TestMain(m *testing.M) { os.Exit(programs.Main(m)) }
//
//	func TestOneEvent(t *testing.T) {
//		h := programs.NewHost(t, harness.Options{Config: harness.YouforceToFile})
//		h.Start()
//		h.MustPost(harness.Youforce("hr", "k1", 1))
//		h.WaitSettled(10 * time.Second)
//		lines := h.Lines("out/events.jsonl")
//		...
//	}
//
// Everything fails the test by itself; what returns an error is meant to fail in some tests. Hosts are killed and
// their folders removed when the test ends; the log of the host is printed if the test failed.
package harness
