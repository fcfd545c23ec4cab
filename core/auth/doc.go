// Package auth verifies and signs webhooks by the schemes that a decoder's manifest declares (sdk.Scheme).
//
// The ingress calls Verify on the raw bytes of every request, before anything parses them, and Allowed once the body
// is known to be sound JSON. `grapnel send` calls Sign. The package is pure: no I/O, no clock, no logs. A Verifier is
// safe for any number of goroutines.
//
// What every scheme keeps to:
//
//   - The bytes as received are hashed; nothing is decoded or normalised before.
//   - A received signature is decoded strictly and must have exactly the digest's length. It is compared in constant
//     time with the MAC of every secret; there is no early exit, so time tells neither which secret matched nor how far.
//   - A header that is missing, doubled or longer than 4096 bytes is refused.
//   - The signature comes first, then the timestamp; deduplication is the caller's and comes after both.
//   - Errors say what is wrong for the operator's eyes. They hold neither secrets nor MACs. The sender learns nothing
//     of them.
package auth
