package expr

import (
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"github.com/grapnelhq/grapnel/core/jsonscan"
)

// reference is a traversal that starts at event or request, resolved at compile time.
type reference struct {
	kind   refKind
	text   string // as the author wrote it, for errors
	rng    hcl.Range
	raw    bool          // refData: it starts at event.raw, which has no types
	field  envelopeField // refEnvelope
	header string        // refHeader
	path   []step        // refData; refChange: the field alone; refOld, refNew: field, "old" or "new", and what follows
}

// step is one step of a path into a view.
type step struct {
	name  string
	path  int32 // the number of the path up to and with this step
	index bool  // it may step into a list
}

type refKind uint8

const (
	refEvent     refKind = iota // the whole event
	refEnvelope                 // a text of the envelope
	refData                     // the record or something in it
	refChanges                  // all changes
	refChange                   // one change
	refChangeVal                // old or new of a change, or something in it
	refHasOld                   // whether a change has old
	refHasNew                   // whether a change has new
	refRequest                  // the whole request
	refReceived                 // request.received_at
	refSource                   // request.source
	refHeaders                  // all headers
	refHeader                   // one header
)

type envelopeField uint8

const (
	fieldID envelopeField = iota
	fieldSource
	fieldType
	fieldSubject
	fieldTime
	fieldPartitionKey
	fieldProvider
	fieldOperation
	fieldTenant
)

// envelopeNames are in the order of the fields.
var envelopeNames = []string{
	"id", "source", "type", "subject", "time", "partitionkey", "provider", "operation", "tenant",
}

var (
	eventNames   = append(slices.Clone(envelopeNames), "data", "changes", "raw")
	requestNames = []string{"received_at", "headers", "source"}
	changeNames  = []string{"old", "new", "has_old", "has_new"}
)

// resolve makes a reference of a traversal from event or request.
func (s *Set) resolve(t hcl.Traversal) (*reference, hcl.Diagnostics) {
	ref := &reference{text: traversalText(t), rng: t.SourceRange()}
	root, rest := t.RootName(), t[1:]
	if len(rest) == 0 {
		ref.kind = refEvent
		if root == "request" {
			ref.kind = refRequest
		}
		return ref, nil
	}
	name, _, diags := stepName(rest[0])
	if diags.HasErrors() {
		return nil, diags
	}
	here, rest := rest[0], rest[1:]
	if root == "request" {
		return s.resolveRequest(ref, name, here, rest)
	}
	if i := slices.Index(envelopeNames, name); i >= 0 {
		ref.kind, ref.field = refEnvelope, envelopeField(i)
		return ref, noMore(ref, rest)
	}
	switch name {
	case "data", "raw":
		ref.kind, ref.raw = refData, name == "raw"
		return ref, s.addPath(ref, s.data, rest)
	case "changes":
		return s.resolveChange(ref, rest)
	}
	return nil, unknownName("event", name, eventNames, here)
}

func (s *Set) resolveRequest(ref *reference, name string, here hcl.Traverser, rest hcl.Traversal) (
	*reference, hcl.Diagnostics,
) {
	switch name {
	case "received_at":
		ref.kind = refReceived
		return ref, noMore(ref, rest)
	case "source":
		ref.kind = refSource
		return ref, noMore(ref, rest)
	case "headers":
		ref.kind = refHeaders
		if len(rest) == 0 {
			return ref, nil
		}
		header, _, diags := stepName(rest[0])
		if diags.HasErrors() {
			return nil, diags
		}
		ref.kind, ref.header = refHeader, header
		if lower := strings.ToLower(header); lower != header {
			return nil, hcl.Diagnostics{{
				Severity: hcl.DiagError,
				Summary:  "Header names are in lower case",
				Detail:   fmt.Sprintf("Write %q instead of %q.", lower, header),
				Subject:  rest[0].SourceRange().Ptr(),
			}}
		}
		return ref, noMore(ref, rest[1:])
	}
	return nil, unknownName("request", name, requestNames, here)
}

func (s *Set) resolveChange(ref *reference, rest hcl.Traversal) (*reference, hcl.Diagnostics) {
	ref.kind = refChanges
	if len(rest) == 0 {
		return ref, nil
	}
	if len(rest) == 1 {
		ref.kind = refChange
		return ref, s.addPath(ref, s.changes, rest)
	}
	name, _, diags := stepName(rest[1])
	if diags.HasErrors() {
		return nil, diags
	}
	switch name {
	case "old", "new":
		ref.kind = refChangeVal
		return ref, s.addPath(ref, s.changes, rest)
	case "has_old", "has_new":
		ref.kind = refHasOld
		if name == "has_new" {
			ref.kind = refHasNew
		}
		if diags := noMore(ref, rest[2:]); diags.HasErrors() {
			return nil, diags
		}
		diags := s.addPath(ref, s.changes, hcl.Traversal{rest[0], hcl.TraverseAttr{
			Name: strings.TrimPrefix(name, "has_"), SrcRange: rest[1].SourceRange(),
		}})
		return ref, diags
	}
	return nil, unknownName("a change", name, changeNames, rest[1])
}

// addPath turns steps into a path that is extracted with the other paths of the view.
func (s *Set) addPath(ref *reference, paths *jsonscan.Paths, rest hcl.Traversal) hcl.Diagnostics {
	names := make([]string, 0, len(rest))
	for _, t := range rest {
		name, index, diags := stepName(t)
		if diags.HasErrors() {
			return diags
		}
		names = append(names, name)
		n, ok := paths.Add(names...)
		if !ok {
			return hcl.Diagnostics{{
				Severity: hcl.DiagError,
				Summary:  "Reference too long",
				Detail:   fmt.Sprintf("A reference has at most %d steps.", jsonscan.MaxPathLen),
				Subject:  rest.SourceRange().Ptr(),
			}}
		}
		ref.path = append(ref.path, step{name: name, path: int32(n), index: index})
	}
	return nil
}

// stepName is the name that one step of a traversal goes to, and whether it may be the index of a list.
func stepName(t hcl.Traverser) (name string, index bool, diags hcl.Diagnostics) {
	switch t := t.(type) {
	case hcl.TraverseAttr:
		return t.Name, false, nil
	case hcl.TraverseIndex:
		switch {
		case t.Key.IsNull():
		case t.Key.Type() == cty.String:
			name = t.Key.AsString()
			return name, isIndex(name), nil
		case t.Key.Type() == cty.Number:
			if n, acc := t.Key.AsBigFloat().Int64(); acc == big.Exact && n >= 0 {
				return fmt.Sprint(n), true, nil
			}
			return "", false, hcl.Diagnostics{{
				Severity: hcl.DiagError,
				Summary:  "Invalid index",
				Detail:   "An index is a whole number, 0 or more.",
				Subject:  t.SrcRange.Ptr(),
			}}
		}
	}
	return "", false, hcl.Diagnostics{{
		Severity: hcl.DiagError,
		Summary:  "Invalid index",
		Detail:   "An index is a text or a whole number.",
		Subject:  t.SourceRange().Ptr(),
	}}
}

func isIndex(s string) bool {
	if s == "" || len(s) > 9 || s[0] == '0' && len(s) > 1 {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

func noMore(ref *reference, rest hcl.Traversal) hcl.Diagnostics {
	if len(rest) == 0 {
		return nil
	}
	return hcl.Diagnostics{{
		Severity: hcl.DiagError,
		Summary:  NoAttribute,
		Detail: fmt.Sprintf("%s has no attributes.",
			strings.TrimSuffix(ref.text, traversalText(rest))),
		Subject: rest[0].SourceRange().Ptr(),
	}}
}

// NoAttribute is the summary of an error about an attribute that event and request lack. A Checker may have better advice.
const NoAttribute = "Unsupported attribute"

func unknownName(what, name string, known []string, t hcl.Traverser) hcl.Diagnostics {
	return hcl.Diagnostics{{
		Severity: hcl.DiagError,
		Summary:  NoAttribute,
		Detail:   fmt.Sprintf("There is no attribute %q in %s.%s", name, what, didYouMean(name, known)),
		Subject:  t.SourceRange().Ptr(),
	}}
}

// didYouMean suggests the known name that is nearest to a misspelt one, or lists them if they are few.
func didYouMean(name string, known []string) string {
	if best := nearestField(name, known); best != "" {
		return fmt.Sprintf(" Did you mean %q?", best)
	}
	if len(known) == 0 || len(known) > 16 {
		return ""
	}
	return " There are: " + strings.Join(known, ", ") + "."
}

// traversalText renders a traversal the way it is written.
func traversalText(t hcl.Traversal) string {
	var b strings.Builder
	for _, t := range t {
		switch t := t.(type) {
		case hcl.TraverseRoot:
			b.WriteString(t.Name)
		case hcl.TraverseAttr:
			b.WriteString("." + t.Name)
		case hcl.TraverseIndex:
			switch {
			case t.Key.IsNull() || !t.Key.IsKnown():
				b.WriteString("[…]")
			case t.Key.Type() == cty.String:
				fmt.Fprintf(&b, "[%q]", t.Key.AsString())
			case t.Key.Type() == cty.Number:
				b.WriteString("[" + t.Key.AsBigFloat().Text('f', -1) + "]")
			}
		default:
			b.WriteString("[*]")
		}
	}
	return b.String()
}

// view returns the view that the reference's path leads into.
func (ref *reference) view(r *Record) *view {
	if ref.kind == refData {
		return &r.data
	}
	return &r.chg
}
