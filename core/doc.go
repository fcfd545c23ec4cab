// Package core holds the vocabulary of the Grapnel host: requests, rejections, events, deliveries, attempts and outcomes,
// their states and their ids. It does no I/O; every other package of the host may import it, and it imports none of them.
//
// A request is what a provider posted: authenticated, byte-exact, stored before the provider gets its answer. A decoder
// plugin turns it into events. Routes turn an event into deliveries, one per matching `to` block. A delivery carries its
// message to one sink, in one or more attempts, each with an outcome:
//
//	request    received ──► routed
//	               └──────► dead ──retry──► received
//
//	delivery   pending(due) ──► leased ──► delivered | skipped | dead
//	               ▲              │                        │
//	               └─ retry, release, restart ◄────retry───┘
//
//	           dead ──► skipped, by hand, or because a replay, which is a new delivery, takes its place
//
// On the embedded store a lease lives in memory, and a start makes every unsettled delivery pending and due.
package core
