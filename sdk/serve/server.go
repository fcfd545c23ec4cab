package serve

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/grapnelhq/grapnel/sdk"
	pluginv1 "github.com/grapnelhq/grapnel/sdk/proto/grapnel/plugin/v1"
	"github.com/grapnelhq/grapnel/sdk/wire"
)

// Server answers the calls of the wire contract with a factory's instances. Main makes one; package plugintest does for
// tests inside of one process. Its methods are called from many goroutines.
type Server struct {
	pluginv1.UnimplementedPluginServer
	pluginv1.UnimplementedDecoderServer
	pluginv1.UnimplementedSinkServer

	description *wire.Description
	describe    *pluginv1.DescribeResponse
	broken      error // why describe is not fit to be sent
	open        func(ctx context.Context, config []byte) (*instance, error)
	validate    func(config []byte) error
	maxBatch    func(config []byte) int                                  // nil: that of the description
	manifest    func(config []byte) (sdk.Provider, error)                // nil: that of the description
	judge       func(config []byte, d *sdk.Draft[json.RawMessage]) error // nil: drafts are not judged

	level slog.LevelVar // of the whole process: the one of the last call

	mu        sync.RWMutex
	instances map[string]*instance
}

// instance is one opened block. Exactly one of sink and decoder is set.
type instance struct {
	name    string // the block's
	author  any    // for sdk.Checker and sdk.Closer
	sink    sdk.SinkInstance
	decoder sdk.Decoder
	calls   sync.WaitGroup // under way; grows only while the instance is registered
}

// New makes a server for a factory.
func New[F Factory](factory F, version string) *Server {
	s := &Server{instances: map[string]*instance{}}
	capabilities := []string{wire.CapabilityCheck, wire.CapabilityValidate}
	switch f := any(factory).(type) {
	case *sdk.SinkFactory:
		s.description = &wire.Description{
			Name: f.Info.Name, Description: f.Info.Description, Sink: &f.Info, Config: f.Config, Message: f.Message,
		}
		s.validate, s.maxBatch, s.judge = f.Validate, f.MaxBatch, f.ValidateMessage
		if s.judge != nil {
			capabilities = append(capabilities, wire.CapabilityMessages)
		}
		s.open = func(ctx context.Context, config []byte) (*instance, error) {
			sink, err := f.Open(ctx, config)
			if err != nil {
				return nil, err
			}
			return &instance{author: sink.Sink(), sink: sink}, nil
		}
	case *sdk.DecoderFactory:
		s.description = &wire.Description{
			Name: f.Provider.Name, Description: f.Provider.Title, Provider: &f.Provider, Config: f.Config,
		}
		s.validate, s.manifest = f.Validate, f.Manifest
		if s.manifest != nil {
			capabilities = append(capabilities, wire.CapabilityManifest)
		}
		s.open = func(ctx context.Context, config []byte) (*instance, error) {
			decoder, err := f.Open(ctx, config)
			if err != nil {
				return nil, err
			}
			return &instance{author: decoder, decoder: decoder}, nil
		}
	}
	s.description.Version, s.description.Capabilities = version, capabilities
	s.describe, s.broken = wire.DescriptionToProto(s.description)
	return s
}

// Register adds the services of the plugin's kind to a gRPC server.
func (s *Server) Register(g *grpc.Server) {
	pluginv1.RegisterPluginServer(g, s)
	if s.description.Sink != nil {
		pluginv1.RegisterSinkServer(g, s)
	} else {
		pluginv1.RegisterDecoderServer(g, s)
	}
}

// ServerOptions are those of the gRPC server that Register is given. first, which may be nil, is called once, before
// the first call.
func (s *Server) ServerOptions(first func()) []grpc.ServerOption {
	var once sync.Once
	return append(wire.ServerOptions(), grpc.UnaryInterceptor(
		func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (_ any, err error) {
			if first != nil {
				once.Do(first)
			}
			if r, ok := req.(interface{ GetContext() *pluginv1.CallContext }); ok {
				if l, ok := levels[r.GetContext().GetLogLevel()]; ok && l != s.level.Level() {
					s.level.Set(l)
				}
			}
			defer func() { // the author's code is guarded on its own; this keeps a mistake here from ending the process
				if v := recover(); v != nil {
					err = status.Error(codes.Internal, logPanic(ctx, v).Error())
				}
			}()
			return handler(ctx, req)
		}))
}

func logPanic(ctx context.Context, v any) error {
	slog.ErrorContext(ctx, "plugin panicked", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
	return fmt.Errorf("panic: %v", v)
}

// guard runs the author's code and makes an error of its panic.
func guard(ctx context.Context, f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = logPanic(ctx, v)
		}
	}()
	return f()
}

// Describe implements the rpc.
func (s *Server) Describe(context.Context, *pluginv1.DescribeRequest) (*pluginv1.DescribeResponse, error) {
	if s.broken != nil {
		return nil, status.Errorf(codes.Internal, "this plugin cannot be described: %v", s.broken)
	}
	return s.describe, nil
}

// Validate implements the rpc.
func (s *Server) Validate(ctx context.Context, r *pluginv1.ValidateRequest) (*pluginv1.ValidateResponse, error) {
	out := &pluginv1.ValidateResponse{}
	err := guard(ctx, func() error {
		err := s.validate(r.GetConfig())
		if err == nil && s.maxBatch != nil {
			out.MaxBatch = int32(s.maxBatch(r.GetConfig()))
		}
		if err == nil && s.manifest != nil {
			out.Provider, err = s.instanceManifest(r.GetConfig())
		}
		return err
	})
	out.Errors = wire.AttributeErrorsToProto(err)
	if len(out.Errors) == 0 && s.judge != nil {
		for _, d := range r.GetDrafts() {
			varying := make([][]string, len(d.GetVaries()))
			for i, p := range d.GetVaries() {
				varying[i] = p.GetPath()
			}
			err := guard(ctx, func() error { return s.judge(r.GetConfig(), sdk.NewDraft(json.RawMessage(d.GetMessage()), varying...)) })
			out.Drafts = append(out.Drafts, &pluginv1.DraftVerdict{Errors: wire.AttributeErrorsToProto(err)})
		}
	}
	return out, nil
}

// instanceManifest is the manifest of an instance, for the wire.
func (s *Server) instanceManifest(config []byte) (*pluginv1.Provider, error) {
	m, err := s.manifest(config)
	if err != nil {
		return nil, err
	}
	return wire.ProviderToProto(&m)
}

// Open implements the rpc.
func (s *Server) Open(ctx context.Context, r *pluginv1.OpenRequest) (*pluginv1.OpenResponse, error) {
	ctx = withCall(ctx, s.nameAttr(r.GetName()))
	inUse := status.Errorf(codes.AlreadyExists, "instance %q is open already", r.GetInstance())
	s.mu.RLock()
	_, there := s.instances[r.GetInstance()]
	s.mu.RUnlock()
	if there {
		return nil, inUse
	}
	var inst *instance
	err := guard(ctx, func() (err error) {
		inst, err = s.open(ctx, r.GetConfig())
		return err
	})
	switch {
	case sdk.HasAttributeError(err):
		return &pluginv1.OpenResponse{Errors: wire.AttributeErrorsToProto(err)}, nil
	case err != nil:
		return &pluginv1.OpenResponse{Unavailable: reason(err)}, nil
	}
	inst.name = r.GetName()
	s.mu.Lock()
	_, there = s.instances[r.GetInstance()]
	if !there && ctx.Err() == nil {
		s.instances[r.GetInstance()] = inst
	}
	s.mu.Unlock()
	if there || ctx.Err() != nil { // nobody waits for this instance: the host has given up, or opened the id twice
		if err := inst.close(ctx); err != nil {
			slog.WarnContext(ctx, "closing an abandoned instance failed", "error", err)
		}
		if there {
			return nil, inUse
		}
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	return &pluginv1.OpenResponse{}, nil
}

// reason is an error's text, which is never empty: an empty reason would mean success on the wire.
func reason(err error) string {
	if text := err.Error(); text != "" {
		return wire.Text(text)
	}
	return "failed without a reason"
}

// nameAttr is the log attribute of a block's name.
func (s *Server) nameAttr(name string) slog.Attr {
	if s.description.Sink != nil {
		return slog.String("sink", name)
	}
	return slog.String("source", name)
}

// begin finds an instance and keeps it from being closed until end is called.
func (s *Server) begin(id string) (inst *instance, end func(), err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	inst, ok := s.instances[id]
	if !ok {
		return nil, nil, status.Errorf(codes.FailedPrecondition,
			"instance %q is not open in this process of plugin %q", id, s.description.Name)
	}
	inst.calls.Add(1)
	return inst, inst.calls.Done, nil
}

// Check implements the rpc. An instance that cannot check is fine.
func (s *Server) Check(ctx context.Context, r *pluginv1.CheckRequest) (*pluginv1.CheckResponse, error) {
	inst, end, err := s.begin(r.GetInstance())
	if err != nil {
		return nil, err
	}
	defer end()
	checker, ok := inst.author.(sdk.Checker)
	if !ok {
		return &pluginv1.CheckResponse{}, nil
	}
	ctx = withCall(ctx, s.nameAttr(inst.name))
	err = guard(ctx, func() error { return checker.Check(ctx) })
	switch {
	case sdk.HasAttributeError(err):
		return &pluginv1.CheckResponse{Errors: wire.AttributeErrorsToProto(err)}, nil
	case err != nil:
		return &pluginv1.CheckResponse{Unavailable: reason(err)}, nil
	}
	return &pluginv1.CheckResponse{}, nil
}

// Close implements the rpc. It waits for the instance's other calls, at most until the deadline; the instance is closed
// after them in any case. An instance that is not open is no error: the answer to an earlier Close may have been lost.
func (s *Server) Close(ctx context.Context, r *pluginv1.CloseRequest) (*pluginv1.CloseResponse, error) {
	s.mu.Lock()
	inst := s.instances[r.GetInstance()]
	delete(s.instances, r.GetInstance())
	s.mu.Unlock()
	if inst == nil {
		return &pluginv1.CloseResponse{}, nil
	}
	ctx = withCall(ctx, s.nameAttr(inst.name))
	closed := make(chan error, 1)
	go func() {
		inst.calls.Wait()
		closed <- inst.close(ctx)
	}()
	select {
	case err := <-closed:
		if err != nil {
			return &pluginv1.CloseResponse{Notes: wire.NotesToProto([]string{"close: " + err.Error()})}, nil //nolint:nilerr // it is a note
		}
		return &pluginv1.CloseResponse{}, nil
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}

func (i *instance) close(ctx context.Context) error {
	closer, ok := i.author.(sdk.Closer)
	if !ok {
		return nil
	}
	return guard(ctx, closer.Close)
}

// Decode implements the rpc.
func (s *Server) Decode(ctx context.Context, r *pluginv1.DecodeRequest) (*pluginv1.DecodeResponse, error) {
	inst, end, err := s.begin(r.GetInstance())
	if err != nil {
		return nil, err
	}
	defer end()
	ctx = withCall(ctx, s.nameAttr(inst.name))
	requests := make([]*sdk.Request, len(r.GetRequests()))
	for i, m := range r.GetRequests() {
		requests[i] = wire.RequestFromProto(m)
	}
	out := &pluginv1.DecodeResponse{Results: make([]*pluginv1.DecodeResult, len(requests))}
	for i, d := range sdk.DecodeAll(ctx, inst.decoder, requests) {
		out.Results[i] = wire.DecodedToProto(&d, requests[i].Body)
	}
	return out, nil
}

// Deliver implements the rpc.
func (s *Server) Deliver(ctx context.Context, r *pluginv1.DeliverRequest) (*pluginv1.DeliverResponse, error) {
	inst, end, err := s.begin(r.GetInstance())
	if err != nil {
		return nil, err
	}
	defer end()
	attrs := []slog.Attr{s.nameAttr(inst.name)}
	if len(r.GetDeliveries()) == 1 {
		attrs = append(attrs, slog.String("delivery_id", r.GetDeliveries()[0].GetId()))
	}
	ctx = withCall(ctx, attrs...)
	deliveries := make([]*sdk.Delivery[json.RawMessage], len(r.GetDeliveries()))
	for i, m := range r.GetDeliveries() {
		deliveries[i] = wire.DeliveryFromProto(m)
	}
	outcomes := inst.sink.DeliverRaw(ctx, deliveries)
	if len(outcomes) != len(deliveries) {
		return nil, status.Errorf(codes.Internal, "%d outcomes for %d deliveries", len(outcomes), len(deliveries))
	}
	out := &pluginv1.DeliverResponse{Outcomes: make([]*pluginv1.Outcome, len(outcomes))}
	for i := range outcomes {
		out.Outcomes[i] = wire.OutcomeToProto(&outcomes[i])
	}
	return out, nil
}
