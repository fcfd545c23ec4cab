// Package foreign has tests that need more than Go: strace, which sees what the host really asks of the kernel, and
// jq, which knows nothing of this project. They have the build tag foreign; `make foreign` runs them, and a missing
// tool fails.
package foreign
