// Package pluginhost finds, verifies, launches, supervises and drains the plugin processes. It is the only package of
// the host that knows go-plugin, gRPC and the wire contract; the rest of the host sees core's types.
//
// One process runs per plugin binary. It holds an instance per configured block; a block with isolated = true has a
// process of its own. A Sink or a Decoder is the host's end of one instance and outlives the processes it lives in.
//
// # Supervision
//
//	            start              all instances tried
//	stopped ───────────► starting ─────────────────────► ready ◄──────────────┐
//	   ▲                  │   ▲ ▲                        │   │                │
//	   │            crash │   │ │ first crash            │   │ recycle, stop  │ probe succeeded
//	   │                  │   │ └────────────────────────┤   ▼                │
//	   │                  │   │ timer                    │ draining ──► starting (recycle)
//	   │                  ▼   │                    crash │   │                │
//	   │                 backoff ◄───────────────────────┤   │ drained        │
//	   │                  │                              │   │ (stop)         │
//	   │                  │ third crash in a minute      │   │                │
//	   │                  ▼                              │   │                │
//	   │                 failed ◄────────────────────────┘   │                │
//	   │                  │  probe every 30 s ───────────────┼────────────────┘
//	   └──────────────────┴──────────────────────────────────┘
//
// A process that dies is started again at once, then with exponential backoff and jitter; the third crash within a
// minute makes it failed: its sinks park, Status says so, and a slow probe keeps trying. A restart opens every
// instance again, and the process is ready when each was tried; an instance whose Open says "unavailable" is tried
// again by itself, without disturbing the others. machine.next is this picture as a pure function.
//
// # Upgrade
//
// Another program of a plugin takes over while calls go on. Its processes run the machine above beside the old ones; what
// moves is the block, from its instance in the old program to its instance in the new one:
//
//	            fits          every block open       new calls go there        trial over
//	checking ───────► opening ────────────────► moved, on trial ─────────► settled ─► old: drained ─► closed ─► stopped
//	    │                │                            │
//	    ▼                ▼ not open, crash, given up  ▼ crash, given up
//	 refused         taken back ◄─────────────────────┘     new calls go to the old one, which was open all the time
//
// A use of a block (a Deliver or Decode with all that quarantine makes of it) happens in one instance from its beginning to
// its end, and Handle.enter gives every later one the instance of the moment. So there is no pause: a call that takes long
// ends in the old version while others run in the new one. Who has at most one delivery of an order key in flight, or takes
// the results of requests back in their order, as the engine does, has that across both versions without doing anything.
//
// What dies in a version that is on trial, in quarantine too, is not charged and nothing is known of it: its caller makes
// the call again, in the old version if that was a crash of the process.
//
// # After a crash
//
// A process that dies with calls in flight leaves their outcome unknown. None of them is charged: each goes alone
// through a quarantine process of the same binary while other traffic goes on in the restarted one. Only a crash
// there is the item's own (core.Crashed, core.Decoded.Crashed), and a crash that quarantine explained so does not
// count towards failed. Items that crashed before go straight to quarantine.
//
// # What a plugin says is not trusted
//
// Every id, range, JSON text, envelope attribute and time in an answer is checked; the size of messages, the number of
// events, the lines on stderr are bounded; secrets of the process's instances are cut from its log lines and reasons.
// A call past its deadline is given up; the process is killed only when its health call fails, and recycled when it
// holds too many calls that were given up or more memory than its limit.
package pluginhost
