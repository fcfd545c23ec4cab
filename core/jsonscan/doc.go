// Package jsonscan looks at JSON bytes without building values from them: it checks foreign bytes against limits
// before anything else parses them, finds values by pointer, and extracts the raw tokens of many paths in one pass.
//
// Check is the door: the ingress calls it on every body, and everything behind it (Lookup, Skip, Paths …) expects
// bytes that passed. Given other bytes, those functions still end in linear time and never panic, but what they
// return means nothing.
//
// Nothing here recurses on the input, and nothing allocates except where text has to be unescaped or an error is
// made. All functions may be called from any number of goroutines.
//
// An object may repeat a key; the last one wins everywhere, as in encoding/json.
package jsonscan
