package sdk

import "context"

// Decoder turns requests of one provider into events.
//
// Decode is called from many goroutines at once. It is pure: the same request gives the same events in the same order, in
// every process, because event ids are derived from their index. It returns no events for a request that carries nothing,
// and an error only for a request that can never be decoded: the request then ends dead, visible with the error's text,
// which therefore names what is wrong and holds no payload. A panic counts as such an error.
type Decoder interface {
	Decode(ctx context.Context, r *Request) ([]Event, error)
}

// DecoderFactory makes a decoder's instances. NewDecoder builds it, package serve runs it.
type DecoderFactory struct {
	Provider Provider
	Config   Schema
	// Open is called once per configured block with the JSON configuration that the host decoded against Config.
	// Several may run at once. AttributeErrors in its error are reported at their file and line.
	Open func(ctx context.Context, config []byte) (Decoder, error)
	// Validate checks a configuration without opening anything; see Validator.
	Validate func(config []byte) error
}

// NewDecoder makes a factory from a manifest and a typed constructor. C is the configuration struct (struct{} for none).
// It panics if C cannot be described by a Schema, which a plugin's first start would show.
func NewDecoder[C any](p Provider, open func(ctx context.Context, cfg C) (Decoder, error)) *DecoderFactory {
	return &DecoderFactory{
		Provider: p,
		Config:   mustSchema[C](),
		Open: func(ctx context.Context, config []byte) (Decoder, error) {
			cfg, err := decodeConfig[C](config)
			if err != nil {
				return nil, err
			}
			return open(ctx, cfg)
		},
		Validate: validateConfig[C],
	}
}
