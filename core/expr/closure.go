package expr

import "github.com/hashicorp/hcl/v2/hclsyntax"

// valueFunc evaluates an expression on the fast path; ok is false if hcl has to do it.
type valueFunc func(r *Record) (v value, ok bool)

// boolFunc evaluates a condition on the fast path.
type boolFunc func(r *Record) truth

type truth uint8

const (
	no truth = iota
	yes
	bail // hcl has to do it
)

type compiled struct{ fn valueFunc }

func (s *Set) compileBool(hclsyntax.Expression) boolFunc { return nil }
func (s *Set) compile(hclsyntax.Expression) compiled     { return compiled{} }

func (r *Record) runBool(f boolFunc) truth           { return f(r) }
func (r *Record) runValue(f valueFunc) (value, bool) { return f(r) }
