// Package foreign has tests that need more than Go: strace, which sees what the host really asks of the kernel, and
// programs that know nothing of this project, such as jq, the CRM Tryton, Prometheus and the packages of npm in folder
// npm. PocketBase needs Go only, but is built for these tests alone. They have the build tag foreign; `make foreign` runs
// them, and a missing tool fails.
package foreign
