package config

import (
	"fmt"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/grapnelhq/grapnel/core"
	"github.com/grapnelhq/grapnel/core/expr"
)

// sinkBlock is a sink block that can be named, whatever else may be wrong with it.
type sinkBlock struct {
	plugin   string
	info     *core.PluginInfo // nil: unknown
	digest   string
	disabled bool
	orderBy  hclsyntax.Expression // nil: the default
	ordered  *expr.Text           // orderBy as it was compiled; nil for the default, or if that failed
	index    int                  // in Config.Sinks, if enabled
	config   []byte               // nil: disabled, wrong, or not whole
	sent     []sentMessage        // by routes
}

// sentMessage is a message that a route sends.
type sentMessage struct {
	message *expr.Message
	at      hcl.Range // of the to block's header
}

func (l *loader) allSinks(blocks []*hclsyntax.Block) {
	l.sinks = map[string]*sinkBlock{}
	seen := map[string]hcl.Range{}
	for _, hb := range blocks {
		what, first := l.names(hb, seen)
		s := l.sink(hb, what)
		if first {
			l.sinks[hb.Labels[1]] = s
			l.diags.blocks[blockName{core.PluginSink, hb.Labels[1]}] = hb
		}
	}
}

func (l *loader) sink(hb *hclsyntax.Block, what string) *sinkBlock {
	s := Sink{
		Plugin: hb.Labels[0],
		Name:   hb.Labels[1],
		Delivery: Delivery{
			Timeout: 30 * time.Second,
			Retry:   Retry{MaxAttempts: 100, MaxAge: 3 * day, Min: time.Second, Max: time.Hour},
			Breaker: Breaker{Failures: 10, Min: 5 * time.Second, Max: 5 * time.Minute},
		},
		Range: rangeOf(blockHeader(hb)),
	}
	b := l.block(hb, what)
	b.plugin = true
	enabled := b.enabled()
	s.Info = l.describe(core.PluginSink, hb, !enabled)
	out := &sinkBlock{plugin: s.Plugin, info: s.Info, disabled: !enabled, index: len(l.cfg.Sinks)}
	if s.Info != nil {
		s.SchemaDigest = schemaDigest(s.Info)
		out.digest = s.SchemaDigest
	}
	if !enabled {
		b.attrs = append(b.attrs, "isolated")
		b.blocks = append(b.blocks, "delivery")
		if s.Info != nil {
			pluginNames(b, &s.Info.Config)
			b.finish()
		}
		l.cfg.Disabled = append(l.cfg.Disabled, Disabled{"sink", s.Plugin, s.Name, s.Range})
		return out
	}
	b.bool("isolated", &s.Isolated)
	maxBatch := 1
	if s.Info != nil {
		maxBatch = max(1, s.Info.MaxBatch)
		config, ok := l.pluginConfig(b, &s.Info.Config, false)
		s.Config = config
		if ok {
			answer, good := l.checkConfig(hb, what, s.Info, config)
			if good {
				out.config = config
			}
			if good && answer.MaxBatch > 0 {
				maxBatch = answer.MaxBatch
			}
		}
	}
	s.Delivery.Batch, s.Delivery.Concurrency = maxBatch, 8
	if maxBatch > 1 {
		s.Delivery.Concurrency = 2 // one call is prepared while the other is out; more only make them smaller
	}
	if d := b.block("delivery"); d != nil {
		out.orderBy = d.delivery(&s, maxBatch)
	}
	if s.Info != nil {
		b.finish()
	}
	l.cfg.Sinks = append(l.cfg.Sinks, s)
	return out
}

// delivery takes a delivery block and returns the order_by expression, if there is one.
func (b *block) delivery(s *Sink, maxBatch int) hclsyntax.Expression {
	d := &s.Delivery
	b.integer("concurrency", &d.Concurrency, 1, 1024)
	if s.Info != nil {
		n := len(b.l.diags.list)
		b.integer("batch", &d.Batch, 1, 1<<16)
		if d.Batch > maxBatch && len(b.l.diags.list) == n {
			b.l.error(b.body.Attributes["batch"].Expr.Range(), fmt.Sprintf("\"batch\" of %s is at most %d", b.what, maxBatch),
				fmt.Sprintf("The plugin %q takes no more deliveries per call.", s.Plugin))
		}
	} else {
		b.attr("batch")
	}
	b.duration("timeout", &d.Timeout, time.Millisecond, day)
	b.rate("rate", &d.Rate)
	if b.attr("on_dead") != nil {
		word := "continue"
		b.choice("on_dead", &word, "continue", "hold")
		d.HoldDead = word == "hold"
	}
	if r := b.block("breaker"); r != nil {
		r.integer("failures", &d.Breaker.Failures, 0, 1<<20)
		r.pause(&d.Breaker.Min, &d.Breaker.Max)
		r.finish()
	}
	if r := b.block("retry"); r != nil {
		r.integer("max_attempts", &d.Retry.MaxAttempts, 1, 1<<20)
		r.duration("max_age", &d.Retry.MaxAge, 0, maxDuration)
		r.pause(&d.Retry.Min, &d.Retry.Max)
		r.finish()
	}
	a := b.attr("order_by")
	b.finish()
	if a == nil {
		return nil
	}
	return a.Expr
}

// pause takes the bounds of a pause that grows.
func (b *block) pause(min, max *time.Duration) {
	b.duration("min", min, time.Millisecond, maxDuration)
	b.duration("max", max, time.Millisecond, maxDuration)
	if *min <= *max {
		return
	}
	at := b.at
	if a := b.body.Attributes["min"]; a != nil {
		at = a.SrcRange
	} else if a := b.body.Attributes["max"]; a != nil {
		at = a.SrcRange
	}
	b.l.error(at, fmt.Sprintf("\"min\" of %s is longer than \"max\"", b.what), fmt.Sprintf(
		"The pause goes from %s up to %s.", FormatDuration(*min), FormatDuration(*max)))
}
