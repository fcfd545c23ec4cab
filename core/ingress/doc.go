// Package ingress is where webhooks come in over HTTP: limits, client address, authentication, deduplication key,
// durable acceptance, reply. It knows neither the engine nor the configuration; package main wires it.
//
// A request passes these gates in this order, and the first that refuses it answers:
//
//	connection   503  too many connections; 431, 408, 400 by net/http for a head that is too large, late or malformed
//	path         404
//	draining     503
//	method       405
//	address      403
//	encoding     415  a compressed body is never unpacked
//	content type 415
//	admission    503  what Config.Admit says: disk short, not ready
//	size         413  by Content-Length, or while reading a chunked body
//	body         408  later or slower than the limits; 503 if the memory for bodies is used up
//	handshake    200  the provider's test of the endpoint is answered here, and stored nowhere; 400 if it is odd
//	credentials  401  on the raw bytes; one reply for every cause
//	rate         429  of the source, after authentication, so that strangers cannot use it up
//	form, JSON   400  syntax and limits, where the body is one (jsonscan, formscan); of the query where there is none
//	allow lists  401
//	acceptance   503  if the store fails or is full
//
// A 2xx is written only after the Acceptor returned, which is after the commit. A duplicate gets the same 2xx. Once
// the body is there, the request is accepted even if its sender is gone.
//
// A request that is refused is counted by source and cause, recorded and logged, both with a bound on their rate.
// Neither holds a body, a query or a credential. Credentials (signature, Authorization, Cookie, path and query
// tokens) are not part of an accepted request either.
package ingress
