package metrics

import "github.com/prometheus/client_golang/prometheus"

// The types of families, as Prometheus names them.
const (
	counter       = "counter"
	gauge         = "gauge"
	histogramType = "histogram"
)

// family is one metric with all its labels.
type family struct {
	name, kind string
	labels     []string
	desc       *prometheus.Desc
}

// families are all metrics of a host, but for Go's and the process's own.
type families struct {
	all []*family

	build *family

	requests, rejections, unlisted               *family
	acceptTime                                   *family
	connections, handling, bodyBytes             *family
	decodeTime, decodeFailures                   *family
	decisions, events, unrouted, routeBatchTime  *family
	routeEvents, routeTime                       *family
	deliverTime, deliverFailures                 *family
	attempts, settled, endToEnd                  *family
	sinkState, breaker                           *family
	backlog, oldest, inFlight, inMemory, behind  *family
	storedRequests, storedDeliveries, held       *family
	commits, syncs                               *family
	commitWrites, commitRequests                 *family
	commitTime, fsyncTime                        *family
	storeBytes, freeBytes, diskShort             *family
	pluginState, pluginRestarts, pluginBlocks    *family
	pluginCPU, pluginMemory, pluginFiles         *family
	pluginInFlight, pluginAbandoned, pluginFault *family
	reloadOK, reloadTime, reloads                *family
	spans                                        *family
	alerts                                       *family
}

func newFamilies() families {
	var f families
	add := func(kind, name, help string, labels ...string) *family {
		name = "grapnel_" + name
		one := &family{name: name, kind: kind, labels: labels, desc: prometheus.NewDesc(name, help, labels, nil)}
		f.all = append(f.all, one)
		return one
	}
	f.build = add(gauge, "build_info", "The host's version and the Go version it was built with; 1.", "version", "go_version")

	f.requests = add(counter, "requests_total", "Authentic requests by what became of them.", "source", "result")
	f.rejections = add(counter, "rejections_total", "Requests that were refused; source is empty where none has the path.",
		"source", "cause")
	f.unlisted = add(counter, "rejections_unlisted_total", "Refused requests that came too fast to be listed.")
	f.acceptTime = add(histogramType, "accept_duration_seconds",
		"From the headers of a request to the answer that it is stored.", "source")
	f.connections = add(gauge, "http_connections", "Open connections of providers.")
	f.handling = add(gauge, "http_requests", "Requests of providers that are being handled.")
	f.bodyBytes = add(gauge, "http_bodies_bytes", "Memory of bodies that are not stored yet.")

	f.decodeTime = add(histogramType, "decode_duration_seconds", "Calls to the decoder, each of a batch of requests.", "source")
	f.decodeFailures = add(counter, "decode_failures_total", "Calls to the decoder that got no answer.", "source")
	f.decisions = add(counter, "decisions_total", "Requests that were decoded and routed, or are dead.", "source", "result")
	f.events = add(counter, "events_total", "Events of routed requests.", "source")
	f.unrouted = add(counter, "unrouted_events_total", "Events that no route matched.", "source")
	f.routeBatchTime = add(histogramType, "route_batch_duration_seconds", "The routes of a batch of requests, all together.",
		"source")
	f.routeEvents = add(counter, "route_events_total", "Events that a route matched.", "route")
	f.routeTime = add(histogramType, "route_duration_seconds",
		"A route on one event: its condition and its messages. A sample of one in sixteen events.", "route")

	f.deliverTime = add(histogramType, "deliver_duration_seconds", "Calls to the sink, each of a batch of deliveries.", "sink")
	f.deliverFailures = add(counter, "deliver_failures_total", "Calls to the sink that got no answer.", "sink")
	f.attempts = add(counter, "attempts_total", "Attempts at deliveries by outcome.", "sink", "outcome")
	f.settled = add(counter, "settled_total", "Deliveries that ended, by the state they ended in.", "sink", "state")
	f.endToEnd = add(histogramType, "end_to_end_duration_seconds",
		"From the receipt of a request to the end of a delivery; replays are left out.", "sink")
	f.sinkState = add(gauge, "sink_state", "1 for the state that the sink is in.", "sink", "state")
	f.breaker = add(gauge, "sink_breaker_state", "1 for the state that the sink's breaker is in.", "sink", "state")
	f.backlog = add(gauge, "sink_backlog_deliveries", "Deliveries that wait or are under way.", "sink")
	f.oldest = add(gauge, "sink_oldest_age_seconds",
		"How long ago the request of the oldest delivery of the backlog came; 0 without a backlog.", "sink")
	f.inFlight = add(gauge, "sink_in_flight_deliveries", "Deliveries in calls.", "sink")
	f.inMemory = add(gauge, "sink_in_memory_deliveries", "Deliveries held in memory.", "sink")
	f.behind = add(gauge, "sink_behind", "1 while deliveries wait in the store.", "sink")

	f.storedRequests = add(gauge, "stored_requests", "Requests in the database.", "state")
	f.storedDeliveries = add(gauge, "stored_deliveries", "Deliveries in the database.", "sink", "state")
	f.held = add(gauge, "held_deliveries", "Dead deliveries that hold their order keys.", "sink")
	f.commits = add(counter, "store_commits_total", "Commits.")
	f.syncs = add(counter, "store_syncs_total", "Times that the log was brought to the disk.")
	f.commitWrites = add(histogramType, "store_commit_writes", "Writes per commit.")
	f.commitRequests = add(histogramType, "store_commit_requests", "New requests per commit that holds some.")
	f.commitTime = add(histogramType, "store_commit_duration_seconds", "Commits from begin to end.")
	f.fsyncTime = add(histogramType, "store_fsync_duration_seconds", "How long bringing the log to the disk took.")
	f.storeBytes = add(gauge, "store_size_bytes", "The database with its log.")
	f.freeBytes = add(gauge, "disk_free_bytes", "Room on the database's disk.")
	f.diskShort = add(gauge, "disk_short", "1 while requests are refused because the disk is short.")

	process := []string{"plugin", "version", "isolated"}
	f.pluginState = add(gauge, "plugin_state", "1 for the state that a plugin process is in.",
		"plugin", "version", "isolated", "state")
	f.pluginRestarts = add(counter, "plugin_restarts_total", "Starts of a plugin process after its first.", process...)
	f.pluginBlocks = add(gauge, "plugin_blocks", "Sources and sinks of a plugin process.", "plugin", "version", "isolated", "ready")
	f.pluginCPU = add(counter, "plugin_cpu_seconds_total", "CPU time of a plugin process, user and system.", process...)
	f.pluginMemory = add(gauge, "plugin_resident_memory_bytes", "Memory that a plugin process has in RAM.", process...)
	f.pluginFiles = add(gauge, "plugin_open_fds", "Open files of a plugin process.", process...)
	f.pluginInFlight = add(gauge, "plugin_calls", "Calls under way in a plugin process.", process...)
	f.pluginAbandoned = add(counter, "plugin_abandoned_calls_total", "Calls that got no answer in time.", process...)
	f.pluginFault = add(counter, "plugin_faults_total", "Answers that broke the contract.", process...)

	f.reloadOK = add(gauge, "config_last_reload_successful", "1 unless the last reload of the configuration was refused.")
	f.reloadTime = add(gauge, "config_last_reload_success_timestamp_seconds",
		"When the configuration that runs was read; of the start, if there was no reload.")
	f.reloads = add(counter, "config_reloads_total", "Reloads of the configuration.", "result")
	f.spans = add(counter, "trace_spans_total", "Spans of traces, by what became of them.", "result")
	f.alerts = add(gauge, "alert_firing", "1 while an alert of the configuration fires.", "alert")
	return f
}
