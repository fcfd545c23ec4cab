package ingress

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/auth"
	"github.com/grapnelhq/grapnel/core/jsonscan"
	"github.com/grapnelhq/grapnel/core/store"
	"github.com/grapnelhq/grapnel/sdk"
)

// Acceptor stores requests. Accept is called from many goroutines and returns when the request is durable; its context
// ends only when a shutdown runs out of time. The request is the Acceptor's from then on.
type Acceptor interface {
	Accept(ctx context.Context, r *core.Request) (store.Acceptance, error)
}

// Observer sees the requests of one endpoint that were stored and answered. It must not block.
type Observer interface {
	// Accepted: took is counted from the headers to the answer. Duplicates are left out.
	Accepted(took time.Duration)
}

// Rejections takes note of refused requests. It must not block.
type Rejections interface {
	RecordRejection(r core.Rejection)
}

// Tracer follows requests from their acceptance on. It must not block.
type Tracer interface {
	// Accepting is called before a request that has passed all gates is stored. It may set Trace. What it returns, unless nil,
	// is called when the store has answered.
	Accepting(r *core.Request, h http.Header) func(store.Acceptance, error)
}

// Config is all that a Server needs. Fields without a default are required.
type Config struct {
	Listen            string // "host:port"; default ":8080"
	CertFile, KeyFile string // PEM; both or none. With TLS, HTTP/2 is offered, too.
	TrustedProxies    []netip.Prefix
	Forwarded         bool // trusted proxies write Forwarded (RFC 7239) instead of X-Forwarded-For
	Limits            Limits
	Endpoints         []Endpoint

	Acceptor   Acceptor
	Rejections Rejections
	Admit      func() (cause string) // "", or why nothing is accepted now: CauseDiskShort or CauseNotReady; default: ""
	Tracer     Tracer                // nil: nothing is traced
	Logger     hclog.Logger
	Now        func() time.Time // default time.Now
}

// Limits bound what one request, one connection and all of them may cost. Zero values mean the defaults.
type Limits struct {
	MaxBody           int64           // bytes of a body; default 1 MiB; an endpoint may have its own
	MaxHeader         int             // bytes of request line and headers, give or take 4 KiB; default 16 KiB
	ReadHeaderTimeout time.Duration   // for request line and headers; default 10 s
	BodyGrace         time.Duration   // for the first bytes of a body; default 10 s
	MinBodyRate       int64           // bytes per second of a body after the grace; default 16 KiB
	BodyTimeout       time.Duration   // for a whole body; default 2 min
	IdleTimeout       time.Duration   // between requests of a connection; default 2 min
	MaxConns          int             // connections; default 4096
	MaxBodyMemory     int64           // bytes of all bodies not accepted yet; default 256 MiB
	RetryAfter        time.Duration   // told to those who get a 503; default 10 s
	JSON              jsonscan.Limits // default jsonscan.DefaultLimits
}

func (l *Limits) setDefaults() {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&l.ReadHeaderTimeout, 10*time.Second)
	def(&l.BodyGrace, 10*time.Second)
	def(&l.BodyTimeout, 2*time.Minute)
	def(&l.IdleTimeout, 2*time.Minute)
	def(&l.RetryAfter, 10*time.Second)
	if l.MaxBody <= 0 {
		l.MaxBody = 1 << 20
	}
	if l.MaxHeader <= 0 {
		l.MaxHeader = 16 << 10
	}
	if l.MinBodyRate <= 0 {
		l.MinBodyRate = 16 << 10
	}
	if l.MaxConns <= 0 {
		l.MaxConns = 4096
	}
	if l.MaxBodyMemory <= 0 {
		l.MaxBodyMemory = 256 << 20
	}
	if l.JSON == (jsonscan.Limits{}) {
		l.JSON = jsonscan.DefaultLimits()
	}
}

// Endpoint is one source's address and what the host does with requests to it.
type Endpoint struct {
	Source       string
	Tenant       string
	Path         string         // default "/hooks/" and the source's name
	Verifier     *auth.Verifier // nil only if Unsigned
	Unsigned     bool           // `auth = "none"`: anybody may post
	Schemes      []sdk.Scheme   // all of the manifest: the credentials of each are cut, whichever is in use
	Methods      []string       // default POST
	ContentTypes []string       // media types; default application/json; "*" is any
	AllowIPs     []netip.Prefix // empty: all
	KeepHeaders  []string       // "x-vwd-*", "*"; content-type is always kept
	Dedupe       []sdk.DedupeKey
	Reply        sdk.Reply
	Handshake    *auth.Handshake // nil: none
	MaxBody      int64           // 0: Limits.MaxBody
	Rate         float64         // requests per second; 0: no limit
	Burst        int             // requests at once; default: those of one second, at least 1
	Observer     Observer        // sees what is accepted; nil: nobody looks
}

func (c *Config) check() error {
	var errs []error
	if c.Acceptor == nil || c.Rejections == nil || c.Logger == nil {
		errs = append(errs, errors.New("an acceptor, a list of rejections and a logger are needed"))
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		errs = append(errs, errors.New("a certificate needs a key and the other way round"))
	}
	for _, p := range c.TrustedProxies {
		if !p.IsValid() {
			errs = append(errs, fmt.Errorf("trusted proxy %v is no valid prefix", p))
		}
	}
	return errors.Join(errs...)
}
