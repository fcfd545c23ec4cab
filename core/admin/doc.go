// Package admin is the control API of a host: what people ask of it and tell it to do, over JSON and HTTP on a unix socket
// in the data folder. The same operations run directly on the store when no host runs, so that the command line works
// either way and does not know which it has. Listener serves the same over TCP, to browsers and programs, behind a guard.
// openapi/api.json describes every call; a new one is added there, and its types to the tests' lists. In short:
//
//	GET  /v1/status                     what is stored, sinks, plugins
//	GET  /v1/requests                   ?source= tenant= type= subject= state= unrouted= since= until= cursor= limit=
//	GET  /v1/requests/{id}
//	GET  /v1/requests/{id}/body         byte for byte
//	GET  /v1/requests/{id}/explanation
//	POST /v1/explain                    {"source": "…", "headers": […], "body": "…"}
//	GET  /v1/tail                       server-sent events; ?after=
//	POST /v1/requests/search            {"text": "…"}; the filters of the list
//	POST /v1/requests/retry             {"ids": […]} or ?source= tenant= state= since= until=, and dry_run= items=
//	POST /v1/requests/erase             {"subject": "…", "source": "…", "tenant": "…"} or {"ids": […]}; ?dry_run=
//	GET  /v1/receipts                   ?cursor= limit=
//	GET  /v1/receipts/{id}
//	GET  /v1/events                     ?source= type= subject= tenant= request= unrouted= since= until= cursor= limit=
//	GET  /v1/events/{id}
//	GET  /v1/deliveries                 ?source= type= subject= tenant= route= sink= request= state= since= until= cursor= limit=
//	GET  /v1/deliveries/{id}
//	POST /v1/deliveries/retry           {"ids": […]} or the filters of the list, and as_is= dry_run= items=
//	POST /v1/deliveries/replay          likewise, and force=
//	POST /v1/deliveries/skip            {"ids": […], "reason": "…"}
//	POST /v1/sinks/{sink}/pause         {"reason": "…"}
//	POST /v1/sinks/{sink}/resume
//	POST /v1/backup                     {"path": "/…", "no_check": …}
//	POST /v1/plugins/upgrade            {"plugin": "…", "version": "…"} or {"plugin": "…", "program": "…", "dev": …}
//	GET  /v1/rejections                 ?source= cause= since= until= cursor= limit=
//	GET  /v1/rejections/{id}
//
// Retries, replays and searches answer with a line of JSON per step and per delivery or request, erasures with one now and then, upgrades with
// one per stage; the last one has the result or an error.
//
// An answer other than 200 is {"error": "…"}; 404 means that there is no such thing.
package admin
