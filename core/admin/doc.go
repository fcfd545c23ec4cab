// Package admin is the control API of a host: what people ask of it and tell it to do, over JSON and HTTP on a unix socket
// in the data folder. The same operations run directly on the store when no host runs, so that the command line works
// either way and does not know which it has.
//
//	GET  /v1/status                     what is stored, sinks, plugins
//	GET  /v1/requests                   ?source= state= unrouted= since= until= cursor= limit=
//	GET  /v1/requests/{id}
//	POST /v1/requests/retry             {"ids": […]}
//	GET  /v1/deliveries                 ?source= type= subject= tenant= route= sink= request= state= since= until= cursor= limit=
//	GET  /v1/deliveries/{id}
//	POST /v1/deliveries/retry           {"ids": […]}
//	GET  /v1/rejections                 ?source= cause= cursor= limit=
//	GET  /v1/rejections/{id}
//
// An answer other than 200 is {"error": "…"}; 404 means that there is no such thing.
package admin
