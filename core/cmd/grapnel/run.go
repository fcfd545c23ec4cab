package main

import (
	"os"
	"os/signal"
	"runtime/pprof"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

func newRun() *cobra.Command {
	c := &cobra.Command{
		Use:   "run",
		Short: "Run the host",
		Long: `Run the host until it gets SIGINT or SIGTERM. It then refuses new webhooks, lets what is under way end, and stops;
what waits is in the store and goes on with the next start.

On SIGHUP, and on ` + "`grapnel reload`" + `, it loads its configuration again; with mistakes in it, it goes on with the one that
it has. The files of server { tls {} } are read again when they change, and at once on SIGHUP.`,
		Args: cobra.NoArgs,
	}
	path := configFlag(c)
	profile := c.Flags().String("cpuprofile", "", "write a CPU profile to this `file`")
	c.RunE = func(c *cobra.Command, _ []string) error {
		began := time.Now()
		cfg, said := load(c, *path)
		if err := showDiagnostics(c, said); err != nil {
			return err
		}
		loaded := time.Since(began)
		if *profile != "" {
			f, err := os.Create(*profile)
			if err != nil {
				return err
			}
			defer f.Close()
			if err := pprof.StartCPUProfile(f); err != nil {
				return err
			}
			defer pprof.StopCPUProfile()
		}
		h := newHost(cfg, said, newLogger(os.Stderr, cfg.Log))
		h.started(began, loaded)
		if !onTerminal() {
			signal.Notify(h.hangup, syscall.SIGHUP) // to the end: it must not kill a host that starts or stops
		}
		return h.run(c.Context())
	}
	return c
}
