// Package plugintest checks that a plugin keeps its contract, over the real wire. A plugin's test is one call:
//
//	func TestSink(t *testing.T) {
//		plugintest.Sink(t, sdk.NewSink(info, open), plugintest.Options{
//			Config:  `{"url": "` + server.URL + `", "token": "s3cr3t"}`,
//			Message: `{"text": "hello"}`,
//		})
//	}
//
//	func TestDecoder(t *testing.T) {
//		plugintest.Decoder(t, sdk.NewDecoder(provider, open), plugintest.Options{Golden: "testdata/golden"})
//	}
//
// Every check runs twice: against the factory, served inside of the test's process, where the race detector, coverage
// and a debugger work; and against the program that is built from the package under test and started as the host starts
// it.
//
// Connect, Launch and Build are for tests of a plugin's own: they give a Client that speaks in package sdk's types.
package plugintest
