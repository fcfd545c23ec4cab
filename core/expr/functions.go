package expr

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2/ext/tryfunc"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"

	"github.com/grapnelhq/grapnel/core/jsonscan"
)

// Functions returns a new table of the functions that every expression may call. Package config adds its own for
// expressions that are evaluated at load. present is in it only so that its name is known: outside expressions that are
// evaluated per event it refuses to run.
func Functions() map[string]function.Function {
	return map[string]function.Function{
		// texts
		"chomp":        stdlib.ChompFunc,
		"endswith":     affixFunc("suffix", strings.HasSuffix),
		"format":       boundedFormat(stdlib.FormatFunc),
		"formatlist":   boundedFormat(stdlib.FormatListFunc),
		"join":         joinFunc,
		"lower":        stdlib.LowerFunc,
		"matches":      matchesFunc,
		"regex":        boundedRegex(stdlib.RegexFunc, 0, 1),
		"regexall":     boundedRegex(stdlib.RegexAllFunc, 0, 1),
		"replace":      boundedReplace(stdlib.ReplaceFunc),
		"split":        stdlib.SplitFunc,
		"startswith":   affixFunc("prefix", strings.HasPrefix),
		"strlen":       stdlib.StrlenFunc,
		"strrev":       stdlib.ReverseFunc,
		"substr":       stdlib.SubstrFunc,
		"title":        stdlib.TitleFunc,
		"trim":         stdlib.TrimFunc,
		"trimprefix":   stdlib.TrimPrefixFunc,
		"trimspace":    stdlib.TrimSpaceFunc,
		"trimsuffix":   stdlib.TrimSuffixFunc,
		"upper":        stdlib.UpperFunc,
		"raw":          rawFunc,
		"jsonencode":   stdlib.JSONEncodeFunc,
		"jsondecode":   jsonDecodeFunc,
		"regexreplace": boundedRegex(boundedReplace(stdlib.RegexReplaceFunc), 1, 0),

		// times
		"date":       dateFunc,
		"formatdate": stdlib.FormatDateFunc,
		"timeadd":    stdlib.TimeAddFunc,
		"timecmp":    timeCmpFunc,

		// numbers
		"abs":      stdlib.AbsoluteFunc,
		"ceil":     stdlib.CeilFunc,
		"floor":    stdlib.FloorFunc,
		"int":      stdlib.IntFunc,
		"log":      stdlib.LogFunc,
		"max":      stdlib.MaxFunc,
		"min":      stdlib.MinFunc,
		"parseint": stdlib.ParseIntFunc,
		"pow":      stdlib.PowFunc,
		"signum":   stdlib.SignumFunc,

		// collections
		"chunklist":              stdlib.ChunklistFunc,
		"coalescelist":           stdlib.CoalesceListFunc,
		"compact":                stdlib.CompactFunc,
		"concat":                 stdlib.ConcatFunc,
		"contains":               containsFunc,
		"distinct":               distinctFunc,
		"element":                stdlib.ElementFunc,
		"flatten":                stdlib.FlattenFunc,
		"keys":                   stdlib.KeysFunc,
		"length":                 lengthFunc,
		"lookup":                 stdlib.LookupFunc,
		"merge":                  stdlib.MergeFunc,
		"range":                  stdlib.RangeFunc,
		"reverse":                stdlib.ReverseListFunc,
		"setintersection":        stdlib.SetIntersectionFunc,
		"setsubtract":            stdlib.SetSubtractFunc,
		"setsymmetricdifference": stdlib.SetSymmetricDifferenceFunc,
		"setunion":               stdlib.SetUnionFunc,
		"slice":                  stdlib.SliceFunc,
		"sort":                   stdlib.SortFunc,
		"values":                 stdlib.ValuesFunc,
		"zipmap":                 stdlib.ZipmapFunc,

		// types, nulls and failures
		"can":      tryfunc.CanFunc,
		"coalesce": coalesceFunc,
		"present":  presentFunc,
		"tobool":   stdlib.MakeToFunc(cty.Bool),
		"tolist":   stdlib.MakeToFunc(cty.List(cty.DynamicPseudoType)),
		"tomap":    stdlib.MakeToFunc(cty.Map(cty.DynamicPseudoType)),
		"tonumber": stdlib.MakeToFunc(cty.Number),
		"toset":    stdlib.MakeToFunc(cty.Set(cty.DynamicPseudoType)),
		"tostring": stdlib.MakeToFunc(cty.String),
		"try":      tryfunc.TryFunc,
	}
}

// coalesceFunc is that of the standard library but for lists and objects. Those of events are seldom of one type: one
// order has two lines with other members than the line of the next, and [] has none. Made of one type they would be
// refused or, worse, changed: coalesce([1, "a"], []) would be ["1", "a"].
var coalesceFunc = function.New(&function.Spec{
	Description: "The first of the values that is not null.",
	VarParam: &function.Parameter{
		Name: "vals", Type: cty.DynamicPseudoType, AllowNull: true, AllowUnknown: true, AllowDynamicType: true,
	},
	Type: func(args []cty.Value) (cty.Type, error) {
		if v, ok := firstCollection(args); ok {
			return v.Type(), nil
		}
		return stdlib.CoalesceFunc.ReturnTypeForValues(args)
	},
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		if v, ok := firstCollection(args); ok {
			return v, nil
		}
		return stdlib.CoalesceFunc.Call(args)
	},
})

// firstCollection gives the first value that is not null, if all of them are lists or all are objects.
func firstCollection(args []cty.Value) (first cty.Value, ok bool) {
	for _, v := range args {
		switch {
		case !v.IsKnown():
			return first, false
		case v.IsNull():
		case !ok:
			first, ok = v, collectionOf(v) != noCollection
			if !ok {
				return first, false
			}
		case collectionOf(v) != collectionOf(first):
			return first, false
		}
	}
	return first, ok
}

type collection int

const (
	noCollection collection = iota
	listOfValues
	membersByName
)

// collectionOf tells lists and objects, whatever is in them.
func collectionOf(v cty.Value) collection {
	switch t := v.Type(); {
	case t.IsTupleType(), t.IsListType(), t.IsSetType():
		return listOfValues
	case t.IsObjectType(), t.IsMapType():
		return membersByName
	}
	return noCollection
}

var presentFunc = function.New(&function.Spec{
	Description: "Whether a field exists in the event, be its value null or not.",
	Params: []function.Parameter{{
		Name: "reference", Type: cty.DynamicPseudoType, AllowNull: true, AllowUnknown: true, AllowDynamicType: true,
	}},
	Type: function.StaticReturnType(cty.Bool),
	Impl: func([]cty.Value, cty.Type) (cty.Value, error) {
		return cty.NilVal, errors.New("present looks into an event, so it works in when, order_by and to only")
	},
})

var rawFunc = function.New(&function.Spec{
	Description: "The value as it is: a message's escaping is not applied to it.",
	Params: []function.Parameter{{
		Name: "value", Type: cty.DynamicPseudoType, AllowNull: true, AllowUnknown: true, AllowDynamicType: true,
	}},
	Type: func(args []cty.Value) (cty.Type, error) { return args[0].Type(), nil },
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) { return args[0], nil },
})

func affixFunc(name string, has func(s, affix string) bool) function.Function {
	return function.New(&function.Spec{
		Description: "Whether a text has the " + name + ".",
		Params:      []function.Parameter{{Name: "str", Type: cty.String}, {Name: name, Type: cty.String}},
		Type:        function.StaticReturnType(cty.Bool),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			return cty.BoolVal(has(args[0].AsString(), args[1].AsString())), nil
		},
	})
}

// maxPattern bounds a regular expression, which may come from an event.
const maxPattern = 4096

var matchesFunc = function.New(&function.Spec{
	Description: "Whether a text matches a regular expression (RE2) anywhere; ^ and $ anchor it.",
	Params:      []function.Parameter{{Name: "str", Type: cty.String}, {Name: "pattern", Type: cty.String}},
	Type: func(args []cty.Value) (cty.Type, error) {
		if !args[1].IsKnown() {
			return cty.Bool, nil
		}
		_, err := compilePattern(args[1]) // so that a bad constant is found without an event
		return cty.Bool, err
	},
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		re, err := compilePattern(args[1])
		if err != nil {
			return cty.NilVal, err
		}
		text := args[0].AsString()
		if err := checkMatching(re.String(), len(text), 1); err != nil {
			return cty.NilVal, err
		}
		return cty.BoolVal(re.MatchString(text)), nil
	},
})

func compilePattern(v cty.Value) (*regexp.Regexp, error) {
	v, _ = v.Unmark()
	pattern := v.AsString()
	if len(pattern) > maxPattern {
		return nil, function.NewArgErrorf(1, "a pattern has at most %d bytes", maxPattern)
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, function.NewArgErrorf(1, "invalid regular expression: %s", err)
	}
	return re, nil
}

// containsFunc is cty's contains, except that null may be looked for: nothing of an event is ever unknown.
var containsFunc = function.New(&function.Spec{
	Description: "Whether a list, tuple or set has a value.",
	Params: []function.Parameter{
		{Name: "list", Type: cty.DynamicPseudoType},
		{Name: "value", Type: cty.DynamicPseudoType, AllowNull: true, AllowDynamicType: true},
	},
	Type: function.StaticReturnType(cty.Bool),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		if ty := args[0].Type(); !ty.IsListType() && !ty.IsTupleType() && !ty.IsSetType() {
			return cty.NilVal, function.NewArgErrorf(0, "a list, tuple or set is required")
		}
		unknown := false
		for it := args[0].ElementIterator(); it.Next(); {
			_, v := it.Element()
			eq := args[1].Equals(v)
			if !eq.IsKnown() {
				unknown = true
			} else if eq.True() {
				return cty.True, nil
			}
		}
		if unknown {
			return cty.UnknownVal(cty.Bool), nil
		}
		return cty.False, nil
	},
})

// lengthFunc is cty's length, and counts the attributes of objects, which is what JSON objects become.
var lengthFunc = function.New(&function.Spec{
	Description: "The number of elements of a list, set, map, tuple or object. For texts there is strlen.",
	Params:      []function.Parameter{{Name: "collection", Type: cty.DynamicPseudoType, AllowUnknown: true}},
	Type: func(args []cty.Value) (cty.Type, error) {
		ty := args[0].Type()
		if !ty.IsTupleType() && !ty.IsObjectType() && !ty.IsCollectionType() {
			return cty.NilType, function.NewArgErrorf(0, "a list, set, map or object is required; for texts there is strlen")
		}
		return cty.Number, nil
	},
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		if ty := args[0].Type(); ty.IsObjectType() {
			return cty.NumberIntVal(int64(len(ty.AttributeTypes()))), nil
		}
		return args[0].Length(), nil
	},
})

// The bounds below keep an event from making an expression of harmless looks run for minutes or fill the memory.
const (
	maxDistinct = 1000
	maxReplaced = 16 << 20
	maxMatching = 256 << 20 // bytes of the text, times instructions of the pattern
)

var joinFunc = bounded(stdlib.JoinFunc, func(args []cty.Value) error {
	n := 0
	for _, list := range args[1:] {
		if !list.IsKnown() || list.IsNull() {
			return nil
		}
		n += list.LengthInt()
	}
	if sep := args[0]; sep.IsKnown() && !sep.IsNull() && n*len(sep.AsString()) > maxReplaced {
		return function.NewArgErrorf(0, "the separator is too long for that many texts")
	}
	return nil
})

// boundedRegex refuses patterns that would take long on a text. pattern and text are indexes of arguments.
func boundedRegex(f function.Function, pattern, text int) function.Function {
	return bounded(f, func(args []cty.Value) error {
		for _, v := range []cty.Value{args[pattern], args[text]} {
			if !v.IsKnown() || v.IsNull() {
				return nil
			}
		}
		return checkMatching(args[pattern].AsString(), len(args[text].AsString()), pattern)
	})
}

// checkMatching refuses what would take long. A pattern that is wrong passes, for the function to say so.
func checkMatching(pattern string, text, arg int) error {
	if len(pattern) > maxPattern {
		return function.NewArgErrorf(arg, "a pattern has at most %d bytes", maxPattern)
	}
	if text < maxMatching>>20 { // a program has fewer than a million instructions
		return nil
	}
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return nil //nolint:nilerr // whoever compiles the pattern says what is wrong with it
	}
	prog, err := syntax.Compile(re.Simplify())
	if err == nil && len(prog.Inst)*text > maxMatching {
		return function.NewArgErrorf(arg, "the pattern is too complex for a text of %d bytes", text)
	}
	return nil
}

var distinctFunc = bounded(stdlib.DistinctFunc, func(args []cty.Value) error {
	if v := args[0]; v.IsKnown() && !v.IsNull() && v.LengthInt() > maxDistinct {
		return function.NewArgErrorf(0, "the list has more than %d elements", maxDistinct)
	}
	return nil
})

var wide = regexp.MustCompile(`[0-9]{4}`)

// boundedFormat refuses formats with a width or precision that would make huge texts.
func boundedFormat(f function.Function) function.Function {
	return bounded(f, func(args []cty.Value) error {
		if v := args[0]; v.IsKnown() && !v.IsNull() {
			for _, verb := range strings.Split(v.AsString(), "%")[1:] {
				flags := verb[:len(verb)-len(strings.TrimLeft(verb, "0123456789.[]+-# "))]
				if wide.MatchString(flags) {
					return function.NewArgErrorf(0, "widths and precisions of more than 999 are refused")
				}
			}
			if n := formatted(args); n > maxReplaced {
				return function.NewArgErrorf(0, "the result would be too long")
			}
		}
		return nil
	})
}

// formatted bounds the length of what a format makes of texts that it repeats: by naming them more than once, or, in
// formatlist, for every element of a list.
func formatted(args []cty.Value) int {
	texts, times := 0, 1
	for _, v := range args[1:] {
		switch ty := v.Type(); {
		case !v.IsKnown(), v.IsNull():
		case ty == cty.String:
			texts += len(v.AsString())
		case ty.IsTupleType(), ty.IsListType(), ty.IsSetType():
			times = max(times, v.LengthInt())
		}
	}
	verbs := strings.Count(args[0].AsString(), "%")
	if verbs <= len(args)-1 && times == 1 {
		return 0
	}
	return (texts*verbs + len(args[0].AsString())) * times
}

// boundedReplace refuses replacements that would make huge texts.
func boundedReplace(f function.Function) function.Function {
	return bounded(f, func(args []cty.Value) error {
		for _, v := range args {
			if !v.IsKnown() || v.IsNull() {
				return nil
			}
		}
		if (len(args[0].AsString())+1)*(len(args[2].AsString())+1) > maxReplaced {
			return function.NewArgErrorf(2, "the text and its replacement are too long together")
		}
		return nil
	})
}

// bounded puts a check of the arguments before a function.
func bounded(f function.Function, refuse func(args []cty.Value) error) function.Function {
	return function.New(&function.Spec{
		Description: f.Description(),
		Params:      f.Params(),
		VarParam:    f.VarParam(),
		Type: func(args []cty.Value) (cty.Type, error) {
			if err := refuse(args); err != nil {
				return cty.NilType, err
			}
			return f.ReturnTypeForValues(args)
		},
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) { return f.Call(args) },
	})
}

// jsonDecodeFunc is cty's jsondecode within limits: deep nesting would exhaust the stack.
var jsonDecodeFunc = function.New(&function.Spec{
	Description: "The value of a JSON text.",
	Params:      []function.Parameter{{Name: "str", Type: cty.String}},
	Type: func(args []cty.Value) (cty.Type, error) {
		if !args[0].IsKnown() {
			return cty.DynamicPseudoType, nil
		}
		v, err := decodeJSON(args[0].AsString())
		if err != nil {
			return cty.NilType, function.NewArgError(0, err)
		}
		return v.Type(), nil
	},
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		v, err := decodeJSON(args[0].AsString())
		if err != nil {
			return cty.NilVal, function.NewArgError(0, err)
		}
		return v, nil
	},
})

func decodeJSON(text string) (cty.Value, error) {
	limits := jsonscan.DefaultLimits()
	if err := jsonscan.Check([]byte(text), limits); err != nil {
		return cty.NilVal, err
	}
	nodes := maxNodes
	v, ok := valueOf(jsonscan.Trim([]byte(text)), limits.MaxDepth, &nodes)
	if !ok {
		return cty.NilVal, fmt.Errorf("the text has more than %d values", maxNodes)
	}
	return v, nil
}

// dateLen is the length of a date, as in 2026-02-14.
const dateLen = len(time.DateOnly)

var dateFunc = function.New(&function.Spec{
	Description: "The date part of a date or RFC 3339 time, as it is written there: 2026-02-14.",
	Params:      []function.Parameter{{Name: "time", Type: cty.String}},
	Type:        function.StaticReturnType(cty.String),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		text := args[0].AsString()
		if _, ok := parseTime(text); !ok {
			return cty.NilVal, function.NewArgErrorf(0, "a date (2006-01-02) or an RFC 3339 time is required")
		}
		return cty.StringVal(text[:dateLen]), nil
	},
})

var timeCmpFunc = function.New(&function.Spec{
	Description: "-1, 0 or 1: whether the first date or RFC 3339 time is before, the same as or after the second. " +
		"A date counts as its midnight in UTC.",
	Params: []function.Parameter{{Name: "a", Type: cty.String}, {Name: "b", Type: cty.String}},
	Type:   function.StaticReturnType(cty.Number),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		var t [2]time.Time
		for i, arg := range args {
			var ok bool
			if t[i], ok = parseTime(arg.AsString()); !ok {
				return cty.NilVal, function.NewArgErrorf(i, "a date (2006-01-02) or an RFC 3339 time is required")
			}
		}
		return cty.NumberIntVal(int64(t[0].Compare(t[1]))), nil
	},
})

// parseTime reads a date or an RFC 3339 time, with a space instead of T, too.
func parseTime(text string) (time.Time, bool) {
	if len(text) == dateLen {
		t, err := time.Parse(time.DateOnly, text)
		return t, err == nil
	}
	if len(text) > dateLen && text[dateLen] == ' ' {
		text = text[:dateLen] + "T" + text[dateLen+1:]
	}
	t, err := time.Parse(time.RFC3339, text)
	return t, err == nil
}
