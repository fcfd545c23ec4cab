// Package plugintest checks that a plugin keeps its contract, over the real wire. A plugin's test is one call:
//
//	func TestSink(t *testing.T) {
//		plugintest.Sink(t, sdk.NewSink(info, open), plugintest.Options{
//			Config:  `{"url": "$FAR_END", "token": "s3cr3t-t0ken"}`,
//			Message: `{"text": "hello"}`,
//		})
//	}
//
//	func TestDecoder(t *testing.T) {
//		plugintest.Decoder(t, sdk.NewDecoder(provider, open), plugintest.Options{Golden: "testdata/golden"})
//	}
//
// Every check of package conform runs twice: against the factory, served inside of the test's process, where the race
// detector, coverage and a debugger work; and against the program that is built from the package under test and started
// as the host starts it. What only one of them can show comes on top: goroutines that are left after Close and changes
// of a request's body in the test's process; signals, output and the end of the host with the program. `grapnel plugin
// test` runs the latter half against any program, and what the host itself has to say.
//
// $FAR_END stands for the address of an HTTP server that the kit runs; a test that needs another far end brings its
// own, which must take Options.Message any number of times and from several connections at once.
//
// Connect, Launch and Build are for tests of a plugin's own: they give a Client that speaks in package sdk's types.
package plugintest
