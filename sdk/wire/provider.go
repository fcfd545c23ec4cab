package wire

import (
	"github.com/grapnelhq/grapnel/sdk"
	pluginv1 "github.com/grapnelhq/grapnel/sdk/proto/grapnel/plugin/v1"
)

var (
	partKinds = enum[sdk.PartKind, pluginv1.Part_Kind]{
		{sdk.PartBody, pluginv1.Part_KIND_BODY},
		{sdk.PartHeader, pluginv1.Part_KIND_HEADER},
		{sdk.PartQuery, pluginv1.Part_KIND_QUERY},
		{sdk.PartJSONPointer, pluginv1.Part_KIND_JSON_POINTER},
		{sdk.PartLiteral, pluginv1.Part_KIND_LITERAL},
		{sdk.PartTimestamp, pluginv1.Part_KIND_TIMESTAMP},
		{sdk.PartPathToken, pluginv1.Part_KIND_PATH_TOKEN},
	}
	encodings = enum[sdk.Encoding, pluginv1.Encoding]{
		{sdk.Hex, pluginv1.Encoding_ENCODING_HEX},
		{sdk.Base64, pluginv1.Encoding_ENCODING_BASE64},
		{sdk.Base64URL, pluginv1.Encoding_ENCODING_BASE64URL},
	}
	algorithms = enum[sdk.Algorithm, pluginv1.Hmac_Algorithm]{
		{sdk.SHA256, pluginv1.Hmac_ALGORITHM_SHA256},
		{sdk.SHA384, pluginv1.Hmac_ALGORITHM_SHA384},
		{sdk.SHA512, pluginv1.Hmac_ALGORITHM_SHA512},
		{sdk.SHA1, pluginv1.Hmac_ALGORITHM_SHA1},
	}
	keyFormats = enum[sdk.KeyFormat, pluginv1.Hmac_KeyFormat]{
		{sdk.KeyText, pluginv1.Hmac_KEY_FORMAT_TEXT},
		{sdk.KeyBase64, pluginv1.Hmac_KEY_FORMAT_BASE64},
		{sdk.KeyHex, pluginv1.Hmac_KEY_FORMAT_HEX},
		{sdk.KeyWhsec, pluginv1.Hmac_KEY_FORMAT_WHSEC},
	}
	variations = enum[sdk.VariationKind, pluginv1.Variation_Kind]{
		{sdk.VaryID, pluginv1.Variation_KIND_ID},
		{sdk.VaryTime, pluginv1.Variation_KIND_TIME},
	}
)

// ProviderToProto converts a manifest. The error names words that are none of package sdk's constants and schemes that
// do not have exactly one kind.
func ProviderToProto(in *sdk.Provider) (*pluginv1.Provider, error) {
	var p problems
	out := &pluginv1.Provider{
		Name:         text(in.Name),
		Title:        text(in.Title),
		Methods:      texts(in.Methods),
		ContentTypes: texts(in.ContentTypes),
		Headers:      texts(in.Headers),
		Reply: &pluginv1.Reply{
			Status: int32(in.Reply.Status), ContentType: text(in.Reply.ContentType), Body: in.Reply.Body,
		},
		Addresses:    texts(in.Addresses),
		ChooseScheme: in.ChooseScheme,
	}
	for i := range in.Schemes {
		out.Schemes = append(out.Schemes, p.schemeToProto(&in.Schemes[i]))
	}
	if h := in.Handshake; h != nil {
		out.Handshake = &pluginv1.Handshake{
			Method: text(h.Method), Echo: p.partToProto("handshake echo", h.Echo), ContentType: text(h.ContentType),
			Authenticated: h.Authenticated, Member: text(h.Member),
		}
		if x := h.Proof; x != nil {
			out.Handshake.Proof = &pluginv1.Handshake_Proof{
				Member:    text(x.Member),
				Algorithm: algorithms.number(&p, "handshake algorithm", x.Algorithm),
				Encoding:  encodings.number(&p, "handshake encoding", x.Encoding),
				Prefix:    text(x.Prefix),
			}
		}
		for _, c := range h.When {
			out.Handshake.When = append(out.Handshake.When, &pluginv1.Handshake_Condition{
				Part: p.partToProto("handshake condition", c.Part), Equals: text(c.Equals),
			})
		}
	}
	for _, key := range in.Dedupe {
		out.Dedupe = append(out.Dedupe, &pluginv1.DedupeKey{Parts: p.partsToProto("dedupe", key)})
	}
	for i := range in.Events {
		out.Events = append(out.Events, p.eventTypeToProto(&in.Events[i]))
	}
	return out, p.err()
}

// ProviderFromProto converts a manifest. The error names values that this version does not know.
func ProviderFromProto(in *pluginv1.Provider) (*sdk.Provider, error) {
	var p problems
	out := &sdk.Provider{
		Name:         in.GetName(),
		Title:        in.GetTitle(),
		Methods:      in.GetMethods(),
		ContentTypes: in.GetContentTypes(),
		Headers:      in.GetHeaders(),
		Reply: sdk.Reply{
			Status:      int(in.GetReply().GetStatus()),
			ContentType: in.GetReply().GetContentType(),
			Body:        in.GetReply().GetBody(),
		},
		Addresses:    in.GetAddresses(),
		ChooseScheme: in.GetChooseScheme(),
	}
	for _, s := range in.GetSchemes() {
		out.Schemes = append(out.Schemes, p.schemeFromProto(s))
	}
	if h := in.GetHandshake(); h != nil {
		out.Handshake = &sdk.Handshake{
			Method: h.GetMethod(), Echo: p.partFromProto("handshake echo", h.GetEcho()), ContentType: h.GetContentType(),
			Authenticated: h.GetAuthenticated(), Member: h.GetMember(),
		}
		if x := h.GetProof(); x != nil {
			out.Handshake.Proof = &sdk.Proof{
				Member:    x.GetMember(),
				Algorithm: algorithms.word(&p, "handshake algorithm", x.GetAlgorithm()),
				Encoding:  encodings.word(&p, "handshake encoding", x.GetEncoding()),
				Prefix:    x.GetPrefix(),
			}
		}
		for _, c := range h.GetWhen() {
			out.Handshake.When = append(out.Handshake.When, sdk.Condition{
				Part: p.partFromProto("handshake condition", c.GetPart()), Equals: c.GetEquals(),
			})
		}
	}
	for _, key := range in.GetDedupe() {
		out.Dedupe = append(out.Dedupe, p.partsFromProto("dedupe", key.GetParts()))
	}
	for _, e := range in.GetEvents() {
		out.Events = append(out.Events, p.eventTypeFromProto(e))
	}
	return out, p.err()
}

func (p *problems) partToProto(what string, in sdk.Part) *pluginv1.Part {
	return &pluginv1.Part{
		Kind: partKinds.number(p, what+" part", in.Kind), Name: text(in.Name), FoldCase: in.FoldCase,
	}
}

func (p *problems) partFromProto(what string, in *pluginv1.Part) sdk.Part {
	return sdk.Part{
		Kind: partKinds.word(p, what+" part", in.GetKind()), Name: in.GetName(), FoldCase: in.GetFoldCase(),
	}
}

func (p *problems) partsToProto(what string, in []sdk.Part) []*pluginv1.Part {
	var out []*pluginv1.Part
	for _, x := range in {
		out = append(out, p.partToProto(what, x))
	}
	return out
}

func (p *problems) partsFromProto(what string, in []*pluginv1.Part) []sdk.Part {
	var out []sdk.Part
	for _, x := range in {
		out = append(out, p.partFromProto(what, x))
	}
	return out
}

func (p *problems) schemeToProto(in *sdk.Scheme) *pluginv1.AuthScheme {
	what := "scheme " + in.Name
	out := &pluginv1.AuthScheme{
		Name: text(in.Name), Description: text(in.Description), Attribute: text(in.Attribute),
	}
	count := 0
	if h := in.HMAC; h != nil {
		count++
		out.Kind = &pluginv1.AuthScheme_Hmac{Hmac: &pluginv1.Hmac{
			Headers:       texts(h.Headers),
			Algorithm:     algorithms.number(p, what+" algorithm", h.Algorithm),
			Encoding:      encodings.number(p, what+" encoding", h.Encoding),
			Prefix:        text(h.Prefix),
			SignedContent: p.partsToProto(what+" signed content", h.SignedContent),
			KeyFormat:     keyFormats.number(p, what+" key format", h.KeyFormat),
			Timestamp:     timestampToProto(h.Timestamp),
			Separator:     text(h.Separator),
			ItemKey:       text(h.ItemKey),
			ItemVersion:   text(h.ItemVersion),
		}}
	}
	if t := in.Token; t != nil {
		count++
		out.Kind = &pluginv1.AuthScheme_Token{Token: &pluginv1.Token{
			Part:         p.partToProto(what, t.Part),
			Prefix:       text(t.Prefix),
			Alternatives: p.partsToProto(what+" alternatives", t.Alternatives),
		}}
	}
	if in.Basic != nil {
		count++
		out.Kind = &pluginv1.AuthScheme_Basic{Basic: &pluginv1.Basic{}}
	}
	if e := in.Ed25519; e != nil {
		count++
		out.Kind = &pluginv1.AuthScheme_Ed25519{Ed25519: &pluginv1.Ed25519{
			Headers:       texts(e.Headers),
			Encoding:      encodings.number(p, what+" encoding", e.Encoding),
			SignedContent: p.partsToProto(what+" signed content", e.SignedContent),
			Timestamp:     timestampToProto(e.Timestamp),
			Separator:     text(e.Separator),
			ItemVersion:   text(e.ItemVersion),
		}}
	}
	if count != 1 {
		p.addf("%s: %d of HMAC, Token, Basic and Ed25519 are set, exactly one must be", what, count)
	}
	for _, a := range in.Allow {
		out.Allow = append(out.Allow, &pluginv1.AllowList{
			Attribute: text(a.Attribute), Part: p.partToProto(what+" allow list", a.Part), Description: text(a.Description),
		})
	}
	return out
}

func (p *problems) schemeFromProto(in *pluginv1.AuthScheme) sdk.Scheme {
	what := "scheme " + in.GetName()
	out := sdk.Scheme{Name: in.GetName(), Description: in.GetDescription(), Attribute: in.GetAttribute()}
	switch kind := in.GetKind().(type) {
	case *pluginv1.AuthScheme_Hmac:
		h := kind.Hmac
		out.HMAC = &sdk.HMAC{
			Headers:       h.GetHeaders(),
			Algorithm:     algorithms.word(p, what+" algorithm", h.GetAlgorithm()),
			Encoding:      encodings.word(p, what+" encoding", h.GetEncoding()),
			Prefix:        h.GetPrefix(),
			SignedContent: p.partsFromProto(what+" signed content", h.GetSignedContent()),
			KeyFormat:     keyFormats.word(p, what+" key format", h.GetKeyFormat()),
			Timestamp:     timestampFromProto(h.GetTimestamp()),
			Separator:     h.GetSeparator(),
			ItemKey:       h.GetItemKey(),
			ItemVersion:   h.GetItemVersion(),
		}
	case *pluginv1.AuthScheme_Token:
		t := kind.Token
		out.Token = &sdk.Token{
			Part:         p.partFromProto(what, t.GetPart()),
			Prefix:       t.GetPrefix(),
			Alternatives: p.partsFromProto(what+" alternatives", t.GetAlternatives()),
		}
	case *pluginv1.AuthScheme_Basic:
		out.Basic = &sdk.Basic{}
	case *pluginv1.AuthScheme_Ed25519:
		e := kind.Ed25519
		out.Ed25519 = &sdk.Ed25519{
			Headers:       e.GetHeaders(),
			Encoding:      encodings.word(p, what+" encoding", e.GetEncoding()),
			SignedContent: p.partsFromProto(what+" signed content", e.GetSignedContent()),
			Timestamp:     timestampFromProto(e.GetTimestamp()),
			Separator:     e.GetSeparator(),
			ItemVersion:   e.GetItemVersion(),
		}
	default:
		p.addf("%s: no kind that this version knows; the plugin is newer than this program", what)
	}
	for _, a := range in.GetAllow() {
		out.Allow = append(out.Allow, sdk.AllowList{
			Attribute:   a.GetAttribute(),
			Part:        p.partFromProto(what+" allow list", a.GetPart()),
			Description: a.GetDescription(),
		})
	}
	return out
}

func timestampToProto(in *sdk.Timestamp) *pluginv1.Timestamp {
	if in == nil {
		return nil
	}
	return &pluginv1.Timestamp{
		Headers: texts(in.Headers), ItemKey: text(in.ItemKey), Milliseconds: in.Milliseconds,
		PastSeconds: in.PastSeconds, FutureSeconds: in.FutureSeconds,
	}
}

func timestampFromProto(in *pluginv1.Timestamp) *sdk.Timestamp {
	if in == nil {
		return nil
	}
	return &sdk.Timestamp{
		Headers: in.GetHeaders(), ItemKey: in.GetItemKey(), Milliseconds: in.GetMilliseconds(),
		PastSeconds: in.GetPastSeconds(), FutureSeconds: in.GetFutureSeconds(),
	}
}

func (p *problems) eventTypeToProto(in *sdk.EventType) *pluginv1.EventType {
	out := &pluginv1.EventType{
		Type: text(in.Type), Description: text(in.Description), Data: p.schemaToProto(in.Type, &in.Data),
	}
	for _, s := range in.Samples {
		sample := &pluginv1.Sample{
			Name: text(s.Name), Method: text(s.Method), Query: text(s.Query), Headers: headersToProto(s.Headers), Body: s.Body,
		}
		for _, v := range s.Vary {
			sample.Vary = append(sample.Vary, &pluginv1.Variation{
				Part: p.partToProto(in.Type+" sample", v.Part), Kind: variations.number(p, in.Type+" variation", v.Kind),
			})
		}
		out.Samples = append(out.Samples, sample)
	}
	return out
}

func (p *problems) eventTypeFromProto(in *pluginv1.EventType) sdk.EventType {
	out := sdk.EventType{
		Type: in.GetType(), Description: in.GetDescription(), Data: p.schemaFromProto(in.GetType(), in.GetData(), 0),
	}
	for _, s := range in.GetSamples() {
		sample := sdk.Sample{
			Name: s.GetName(), Method: s.GetMethod(), Query: s.GetQuery(), Headers: headersFromProto(s.GetHeaders()),
			Body: s.GetBody(),
		}
		for _, v := range s.GetVary() {
			sample.Vary = append(sample.Vary, sdk.Variation{
				Part: p.partFromProto(in.GetType()+" sample", v.GetPart()),
				Kind: variations.word(p, in.GetType()+" variation", v.GetKind()),
			})
		}
		out.Samples = append(out.Samples, sample)
	}
	return out
}
