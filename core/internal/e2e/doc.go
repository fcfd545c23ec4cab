// Package e2e has tests of the whole: the built host with built plugins, on real sockets, files and processes. What
// they share is in package harness.
package e2e
