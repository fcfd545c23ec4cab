package wire

import (
	"errors"
	"fmt"
	"slices"

	"github.com/grapnelhq/grapnel/sdk"
	pluginv1 "github.com/grapnelhq/grapnel/sdk/proto/grapnel/plugin/v1"
)

// enum pairs the words of package sdk with the numbers of the wire. The zero values of both mean each other.
type enum[W ~string, N ~int32] []pair[W, N]

type pair[W ~string, N ~int32] struct {
	word   W
	number N
}

var (
	kinds = enum[sdk.Kind, pluginv1.Schema_Kind]{
		{sdk.KindAny, pluginv1.Schema_KIND_ANY},
		{sdk.KindString, pluginv1.Schema_KIND_STRING},
		{sdk.KindNumber, pluginv1.Schema_KIND_NUMBER},
		{sdk.KindInteger, pluginv1.Schema_KIND_INTEGER},
		{sdk.KindBool, pluginv1.Schema_KIND_BOOL},
		{sdk.KindDuration, pluginv1.Schema_KIND_DURATION},
		{sdk.KindObject, pluginv1.Schema_KIND_OBJECT},
		{sdk.KindMap, pluginv1.Schema_KIND_MAP},
		{sdk.KindList, pluginv1.Schema_KIND_LIST},
	}
	escapes = enum[sdk.Escape, pluginv1.Schema_Escape]{
		{sdk.EscapeHTML, pluginv1.Schema_ESCAPE_HTML},
		{sdk.EscapeURL, pluginv1.Schema_ESCAPE_URL},
		{sdk.EscapeSlackMrkdwn, pluginv1.Schema_ESCAPE_SLACK_MRKDWN},
	}
	formats = enum[sdk.Format, pluginv1.Schema_Format]{
		{sdk.FormatPath, pluginv1.Schema_FORMAT_PATH},
	}
)

// problems collects what is wrong with a schema or manifest while it is converted.
type problems []error

func (p *problems) addf(format string, args ...any) { *p = append(*p, fmt.Errorf(format, args...)) }

func (p *problems) err() error { return errors.Join(*p...) }

// number is the number of a word. what names the place for the error.
func (e enum[W, N]) number(p *problems, what string, w W) N {
	if w == "" {
		return 0
	}
	i := slices.IndexFunc(e, func(x pair[W, N]) bool { return x.word == w })
	if i < 0 {
		p.addf("%s: unknown word %q", what, w)
		return 0
	}
	return e[i].number
}

// word is the word of a number.
func (e enum[W, N]) word(p *problems, what string, n N) W {
	if n == 0 {
		return ""
	}
	i := slices.IndexFunc(e, func(x pair[W, N]) bool { return x.number == n })
	if i < 0 {
		p.addf("%s: unknown value %d; the plugin is newer than this program", what, n)
		return ""
	}
	return e[i].word
}

// SchemaToProto converts a schema. The error names words that are none of package sdk's constants.
func SchemaToProto(s *sdk.Schema) (*pluginv1.Schema, error) {
	var p problems
	out := p.schemaToProto("schema", s)
	return out, p.err()
}

func (p *problems) schemaToProto(what string, s *sdk.Schema) *pluginv1.Schema {
	out := &pluginv1.Schema{
		Kind:        kinds.number(p, what+" kind", s.Kind),
		Description: text(s.Description),
		Optional:    s.Optional,
		Nullable:    s.Nullable,
		Enum:        texts(s.Enum),
		Default:     s.Default,
		Sensitive:   s.Sensitive,
		Escape:      escapes.number(p, what+" escape", s.Escape),
		Format:      formats.number(p, what+" format", s.Format),
	}
	for i := range s.Attributes {
		a := &s.Attributes[i]
		out.Attributes = append(out.Attributes,
			&pluginv1.Attribute{Name: text(a.Name), Schema: p.schemaToProto(what+" "+a.Name, &a.Schema)})
	}
	if s.Element != nil {
		out.Element = p.schemaToProto(what+" element", s.Element)
	}
	return out
}

// MaxSchemaDepth bounds the nesting of a schema from the wire, so that a recursive walk of it is safe.
const MaxSchemaDepth = 32

// SchemaFromProto converts a schema; nil gives the zero schema. The error names values that this version does not know.
func SchemaFromProto(s *pluginv1.Schema) (sdk.Schema, error) {
	var p problems
	out := p.schemaFromProto("schema", s, 0)
	return out, p.err()
}

func (p *problems) schemaFromProto(what string, s *pluginv1.Schema, depth int) sdk.Schema {
	if depth > MaxSchemaDepth {
		p.addf("%s: nested deeper than %d", what, MaxSchemaDepth)
		return sdk.Schema{}
	}
	out := sdk.Schema{
		Kind:        kinds.word(p, what+" kind", s.GetKind()),
		Description: s.GetDescription(),
		Optional:    s.GetOptional(),
		Nullable:    s.GetNullable(),
		Enum:        s.GetEnum(),
		Default:     s.GetDefault(),
		Sensitive:   s.GetSensitive(),
		Escape:      escapes.word(p, what+" escape", s.GetEscape()),
		Format:      formats.word(p, what+" format", s.GetFormat()),
	}
	for _, a := range s.GetAttributes() {
		out.Attributes = append(out.Attributes, sdk.Attribute{
			Name: a.GetName(), Schema: p.schemaFromProto(what+" "+a.GetName(), a.GetSchema(), depth+1),
		})
	}
	if e := s.GetElement(); e != nil {
		elem := p.schemaFromProto(what+" element", e, depth+1)
		out.Element = &elem
	}
	return out
}
