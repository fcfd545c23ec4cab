// Package browser has the tests of the web UI in a real browser, Debian's chromium, on a real host with real plugins. It is a
// module of its own, so that what drives the browser enters no product's go.mod. The tests have the build tag foreign;
// `make foreign` runs them, and `make ui` over a million requests.
package browser
