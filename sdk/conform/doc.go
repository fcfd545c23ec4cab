// Package conform checks that a plugin keeps its contract, as docs/plugin-protocol.md has it, over its wire. It knows
// nothing of Go's testing: package plugintest runs it in the tests of a plugin, and `grapnel plugin test` against any
// program, in whatever language it is written.
//
// A Suite has the checks that need a connection only. Program starts a program as the host does, runs a Suite on it and
// then what concerns a process: signals, its output, its end. Both hand each check to a Runner, one after another, in
// the caller's goroutine; a check ends by itself, since every call that it makes has a deadline.
package conform
