package conform

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/grapnelhq/grapnel/sdk"
)

// CheckData checks JSON against a schema, strictly: every member is declared, every one that is not optional is there,
// and types, enums and null are as declared. The error joins an sdk.AttributeError for each problem.
func CheckData(schema *sdk.Schema, data []byte) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return &sdk.AttributeError{Summary: fmt.Sprintf("is not JSON: %v", err)}
	}
	if dec.More() {
		return &sdk.AttributeError{Summary: "is more than one JSON value"}
	}
	var c checker
	c.check(schema, v)
	return errors.Join(c.errs...)
}

// notDeclared is the one problem that Options.Loose accepts.
const notDeclared = "is not in the schema"

// isNull is the one problem of what the kit was given that a host lets pass, where it is optional.
const isNull = "is null, and the schema does not say nullable"

type checker struct {
	path []string
	errs []error
}

func (c *checker) fail(format string, args ...any) {
	c.errs = append(c.errs, &sdk.AttributeError{Path: slices.Clone(c.path), Summary: fmt.Sprintf(format, args...)})
}

func (c *checker) at(name string, s *sdk.Schema, v any) {
	c.path = append(c.path, name)
	c.check(s, v)
	c.path = c.path[:len(c.path)-1]
}

func (c *checker) check(s *sdk.Schema, v any) {
	if v == nil {
		if !s.Nullable && s.Kind != sdk.KindAny {
			c.fail(isNull)
		}
		return
	}
	ok := true
	switch s.Kind {
	case sdk.KindAny:
	case sdk.KindString:
		var text string
		if text, ok = v.(string); ok && s.Enum != nil && !slices.Contains(s.Enum, text) {
			c.fail("is not one of %q", s.Enum)
		}
	case sdk.KindNumber:
		_, ok = v.(json.Number)
	case sdk.KindInteger, sdk.KindDuration:
		var n json.Number
		if n, ok = v.(json.Number); ok {
			ok = isInt64(n.String())
		}
	case sdk.KindBool:
		_, ok = v.(bool)
	case sdk.KindList:
		var list []any
		list, ok = v.([]any)
		for i, e := range list {
			c.at(strconv.Itoa(i), s.Element, e)
		}
	case sdk.KindMap:
		var m map[string]any
		m, ok = v.(map[string]any)
		for _, name := range sortedKeys(m) {
			c.at(name, s.Element, m[name])
		}
	case sdk.KindObject:
		var m map[string]any
		if m, ok = v.(map[string]any); ok {
			c.object(s, m)
		}
	default:
		c.fail("the schema has the unknown kind %q", s.Kind)
	}
	if !ok {
		c.fail("is not of kind %s", s.Kind)
	}
}

func (c *checker) object(s *sdk.Schema, m map[string]any) {
	for _, name := range sortedKeys(m) {
		if a := s.Attribute(name); a != nil {
			c.at(name, a, m[name])
			continue
		}
		c.path = append(c.path, name)
		c.fail(notDeclared)
		c.path = c.path[:len(c.path)-1]
	}
	for i := range s.Attributes {
		a := &s.Attributes[i]
		if _, ok := m[a.Name]; !ok && !a.Schema.Optional {
			c.path = append(c.path, a.Name)
			c.fail("is not there, and the schema does not say optional")
			c.path = c.path[:len(c.path)-1]
		}
	}
}

func sortedKeys(m map[string]any) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func isInt64(token string) bool {
	if len(token) > 30 || strings.ContainsAny(token, "eE") && len(token) > 10 {
		return false // no whole number within 64 bits is written like this
	}
	f, _, err := big.ParseFloat(token, 10, 256, big.ToNearestEven)
	if err != nil {
		return false
	}
	_, accuracy := f.Int64()
	return accuracy == big.Exact
}

// secrets lists the texts in a configuration that its schema calls sensitive.
func secrets(s *sdk.Schema, v any, inherited bool) []string {
	var out []string
	sensitive := s != nil && s.Sensitive || inherited
	switch x := v.(type) {
	case string:
		if sensitive && len(x) >= 4 { // a shorter one stands in any text
			out = append(out, x)
		}
	case []any:
		for _, e := range x {
			out = append(out, secrets(element(s), e, sensitive)...)
		}
	case map[string]any:
		for name, e := range x {
			sub := element(s)
			if s != nil && s.Kind == sdk.KindObject {
				sub = s.Attribute(name)
			}
			out = append(out, secrets(sub, e, sensitive)...)
		}
	}
	return out
}

func element(s *sdk.Schema) *sdk.Schema {
	if s == nil {
		return nil
	}
	return s.Element
}
