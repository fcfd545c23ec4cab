// Package tracing follows requests through the host with OpenTelemetry and exports their spans by OTLP over HTTP, those that
// plugins measured included. It stands beside the work, never in its way: spans wait for their export in a bounded queue, and
// what does not fit is dropped and counted.
//
// A trace begins with the acceptance of a request that has passed all gates, below the provider's span where the request
// carries a valid traceparent, and is sampled then, once. Its place is stored with the request. Whatever happens to the
// request afterwards, in whatever process of the host and however late, is a span below the acceptance:
//
//	accept ─┬─ store
//	        ├─ decode ─── decode, in the plugin ─── the author's steps
//	        ├─ route
//	        └─ deliver, one per attempt ─── deliver, in the plugin ─── the author's steps, the far end
package tracing

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Options say where spans go. What they leave open, the standard environment variables decide (OTEL_EXPORTER_OTLP_*,
// OTEL_TRACES_SAMPLER, OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES), and then OpenTelemetry's defaults.
type Options struct {
	Endpoint string            // URL of an OTLP receiver over HTTP; without a path, the standard one is meant
	Headers  map[string]string // of each export; secret
	Sample   *float64          // of the traces that begin here, the share that is exported, from 0 to 1
	Version  string            // of the host
	Logger   hclog.Logger
}

// Tracing is the tracing of one host. It implements the tracers of packages ingress and engine. Its methods may be called
// from any goroutine.
type Tracing struct {
	accepts  trace.Tracer // decides what is sampled
	follows  trace.Tracer // of what was sampled
	queue    *queue
	resource *resource.Resource

	mu      sync.Mutex
	plugins map[pluginVersion]trace.Tracer
}

type pluginVersion struct{ plugin, version string }

const scope = "github.com/grapnelhq/grapnel"

// Disabled reports whether the environment switches OpenTelemetry off, whatever the configuration says.
func Disabled() bool {
	return strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") ||
		strings.EqualFold(os.Getenv("OTEL_TRACES_EXPORTER"), "none")
}

// New starts to trace. It dials nothing: a receiver that is not there costs spans, nothing else. Close ends it. What the
// OpenTelemetry libraries have to say, once per process, goes to the logger.
func New(ctx context.Context, o Options) (*Tracing, error) {
	options := []otlptracehttp.Option{
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{
			Enabled: true, InitialInterval: time.Second, MaxInterval: 4 * time.Second, MaxElapsedTime: exportTimeout,
		}),
	}
	if o.Endpoint != "" {
		endpoint, err := tracesURL(o.Endpoint)
		if err != nil {
			return nil, fmt.Errorf("tracing: %w", err)
		}
		options = append(options, otlptracehttp.WithEndpointURL(endpoint))
	} else if os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") == "" && os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") == "" {
		options = append(options, otlptracehttp.WithEndpointURL(DefaultEndpoint+tracesPath))
	}
	if len(o.Headers) > 0 {
		options = append(options, otlptracehttp.WithHeaders(o.Headers))
	}
	res, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", "grapnel"), attribute.String("service.version", o.Version)),
		resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil && !errors.Is(err, resource.ErrPartialResource) {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	exporter := otlptrace.NewUnstarted(otlptracehttp.NewClient(options...))
	if err := exporter.Start(ctx); err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	q := newQueue(exporter, o.Logger)
	otel.SetErrorHandler(otel.ErrorHandlerFunc(q.tell))
	t := &Tracing{queue: q, resource: res, plugins: map[pluginVersion]trace.Tracer{}}
	accepting := []sdktrace.TracerProviderOption{}
	if o.Sample != nil {
		accepting = append(accepting, sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(*o.Sample))))
	}
	t.accepts = t.tracer(res, accepting...)
	t.follows = t.tracer(res, sdktrace.WithSampler(sdktrace.AlwaysSample()))
	return t, nil
}

// DefaultEndpoint is where a collector on the same machine listens.
const DefaultEndpoint = "http://127.0.0.1:4318"

const tracesPath = "/v1/traces"

// tracesURL completes an endpoint without a path.
func tracesURL(endpoint string) (string, error) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil {
		return "", errors.New("the endpoint is no URL with http:// or https://") // it may hold a secret
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = tracesPath
	}
	return u.String(), nil
}

// tracer makes a tracer whose spans say that they come from a resource.
func (t *Tracing) tracer(r *resource.Resource, o ...sdktrace.TracerProviderOption) trace.Tracer {
	limits := sdktrace.NewSpanLimits()
	if limits.AttributeValueLengthLimit < 0 {
		limits.AttributeValueLengthLimit = maxValue
	}
	o = append(o, sdktrace.WithResource(r), sdktrace.WithSpanProcessor(t.queue), sdktrace.WithIDGenerator(ids{}),
		sdktrace.WithRawSpanLimits(limits))
	return sdktrace.NewTracerProvider(o...).Tracer(scope)
}

const (
	maxValue   = 256 // bytes of an attribute
	maxPlugins = 256 // versions of plugins that have a resource of their own
)

// plugin is the tracer whose spans say that they come from a plugin.
func (t *Tracing) plugin(name, version string) trace.Tracer {
	key := pluginVersion{name, version}
	t.mu.Lock()
	defer t.mu.Unlock()
	p, ok := t.plugins[key]
	if ok {
		return p
	}
	if len(t.plugins) == maxPlugins {
		return t.follows
	}
	r, err := resource.Merge(t.resource, resource.NewSchemaless(
		attribute.String("service.name", name), attribute.String("service.version", version)))
	if err != nil {
		r = t.resource
	}
	p = t.tracer(r, sdktrace.WithSampler(sdktrace.AlwaysSample()))
	t.plugins[key] = p
	return p
}

// Stats counts spans since the start.
type Stats struct {
	Exported uint64 // the receiver took them
	Dropped  uint64 // there was no room for them, or no time at the end
	Failed   uint64 // the receiver did not take them
}

// Stats returns how many spans went where.
func (t *Tracing) Stats() Stats {
	return Stats{Exported: t.queue.exported.Load(), Dropped: t.queue.dropped.Load(), Failed: t.queue.failed.Load()}
}

// Close exports what waits, as far as ctx allows, and stops. Spans that end afterwards are dropped.
func (t *Tracing) Close(ctx context.Context) { t.queue.close(ctx) }

// ids makes random ids. A span that a plugin measured has its id already: it comes with the context.
type ids struct{}

type spanIDKey struct{}

// NewIDs implements sdktrace.IDGenerator.
func (g ids) NewIDs(ctx context.Context) (id trace.TraceID, _ trace.SpanID) {
	put(id[:8], rand.Uint64())
	put(id[8:], rand.Uint64N(math.MaxUint64)+1)
	return id, g.NewSpanID(ctx, id)
}

// NewSpanID implements sdktrace.IDGenerator.
func (ids) NewSpanID(ctx context.Context, _ trace.TraceID) (id trace.SpanID) {
	if given, ok := ctx.Value(spanIDKey{}).(trace.SpanID); ok {
		return given
	}
	put(id[:], rand.Uint64N(math.MaxUint64)+1)
	return id
}

func put(b []byte, n uint64) {
	for i := range b {
		b[i] = byte(n >> (8 * i))
	}
}

const (
	queued        = 8192 // spans that wait for their export
	exportBatch   = 512  // spans per export
	exportEvery   = time.Second
	exportTimeout = 10 * time.Second
	tellEvery     = time.Minute
)

// queue is the way of all spans from where they end to the exporter.
type queue struct {
	exporter sdktrace.SpanExporter
	log      hclog.Logger
	spans    chan sdktrace.ReadOnlySpan
	stop     context.CancelFunc // of exports
	closing  chan struct{}
	done     chan struct{}
	once     sync.Once

	exported, dropped, failed atomic.Uint64

	mu   sync.Mutex
	told time.Time // when the log last said that spans are lost
}

func newQueue(exporter sdktrace.SpanExporter, log hclog.Logger) *queue {
	ctx, stop := context.WithCancel(context.Background())
	q := &queue{
		exporter: exporter, log: log, spans: make(chan sdktrace.ReadOnlySpan, queued), stop: stop,
		closing: make(chan struct{}), done: make(chan struct{}),
	}
	go q.run(ctx)
	return q
}

// OnStart implements sdktrace.SpanProcessor.
func (q *queue) OnStart(context.Context, sdktrace.ReadWriteSpan) {}

// OnEnd implements sdktrace.SpanProcessor.
func (q *queue) OnEnd(s sdktrace.ReadOnlySpan) {
	if !s.SpanContext().IsSampled() {
		return
	}
	select {
	case <-q.closing:
		q.dropped.Add(1)
		return
	default:
	}
	select {
	case q.spans <- s:
	default:
		q.dropped.Add(1)
	}
}

// Shutdown implements sdktrace.SpanProcessor; close does the work, once for all providers.
func (q *queue) Shutdown(context.Context) error { return nil }

// ForceFlush implements sdktrace.SpanProcessor.
func (q *queue) ForceFlush(context.Context) error { return nil }

// run exports until the queue is closed and empty, or ctx ends.
func (q *queue) run(ctx context.Context) {
	defer close(q.done)
	batch := make([]sdktrace.ReadOnlySpan, 0, exportBatch)
	timer := time.NewTimer(exportEvery)
	defer timer.Stop()
	flush := func() {
		q.export(ctx, batch)
		clear(batch)
		batch = batch[:0]
		timer.Reset(exportEvery)
	}
	for {
		select {
		case s := <-q.spans:
			if batch = append(batch, s); len(batch) == exportBatch {
				flush()
			}
		case <-timer.C:
			flush()
		case <-q.closing:
			for {
				select {
				case s := <-q.spans:
					if batch = append(batch, s); len(batch) == exportBatch {
						flush()
					}
					continue
				default:
				}
				flush()
				return
			}
		}
	}
}

func (q *queue) export(ctx context.Context, batch []sdktrace.ReadOnlySpan) {
	if len(batch) == 0 {
		return
	}
	if ctx.Err() != nil {
		q.dropped.Add(uint64(len(batch)))
		return
	}
	ctx, cancel := context.WithTimeout(ctx, exportTimeout)
	defer cancel()
	if err := q.exporter.ExportSpans(ctx, batch); err != nil {
		q.failed.Add(uint64(len(batch)))
		q.tell(err)
		return
	}
	q.exported.Add(uint64(len(batch)))
}

// tell says now and then that spans are lost.
func (q *queue) tell(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if now := time.Now(); q.told.IsZero() || now.Sub(q.told) >= tellEvery {
		q.told = now
		text := err.Error()
		q.log.Warn("spans are lost, webhooks are not touched by it", "error", text[:min(len(text), maxValue)],
			"failed", q.failed.Load(), "dropped", q.dropped.Load())
	}
}

func (q *queue) close(ctx context.Context) {
	q.once.Do(func() { close(q.closing) })
	select {
	case <-q.done:
	case <-ctx.Done():
		q.stop()
		<-q.done
	}
	q.stop()
	// Connections only: nothing is under way any more.
	if err := q.exporter.Shutdown(context.WithoutCancel(ctx)); err != nil {
		q.tell(err)
	}
}
