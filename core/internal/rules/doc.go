// Package rules holds the rules of the codebase as tests: who may import what, and what no file may contain.
package rules
