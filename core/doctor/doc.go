// Package doctor decides how a host is. Vitals are what /healthz, /readyz and the service manager's watchdog go by; the
// checks are what the doctor command finds wrong with a host, its folders and its configuration, with advice. Whoever
// calls it collects the facts; the package reads no files and calls nobody, but for Probe, which calls what it is given.
package doctor
