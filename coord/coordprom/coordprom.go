// Package coordprom makes Prometheus metrics of what a client of coord does. It is a package of its own so that programs
// that want none don't link Prometheus.
//
//	client, err := coord.Dial(ctx)
//	…
//	prometheus.MustRegister(coordprom.New(client))
//
// # Metrics
//
//   - coord_client_connections and coord_client_connections_made_total: connections, one for the client and one for each of
//     its sessions. The second one grows when a connection was lost.
//   - coord_client_sessions, by phase: a session that is suspended is about to be lost.
//   - coord_client_requests_total and coord_client_request_seconds_total, by op and outcome: requests that are over, and the
//     time that they took together. rate of the second by rate of the first is the mean time of one. An outcome is done,
//     refused (surely not done), decided (the answer is no) or unknown (perhaps done).
//   - coord_client_requests_waiting and coord_client_watches: what is under way.
//
// # What hurts
//
// Metrics of several clients in one registry need labels that tell them apart: prometheus.WrapRegistererWith.
package coordprom

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/coord-kv/coord/coord"
)

// Source is a *coord.Client.
type Source interface{ Stats() coord.Stats }

// New returns a collector of the metrics of a client. It costs nothing but when it is collected, and may be used
// concurrently.
func New(client Source) prometheus.Collector { return collector{client} }

type collector struct{ client Source }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("coord_client_"+name, help, labels, nil)
}

var (
	connections = desc("connections", "Connections to members, one for the client and one for each session.")
	made        = desc("connections_made_total", "Connections that were made.")
	sessions    = desc("sessions", "Open sessions by phase.", "phase")
	requests    = desc("requests_total", "Requests that are over, by operation and outcome.", "op", "outcome")
	seconds     = desc("request_seconds_total", "Time that requests took together, by operation and outcome.", "op", "outcome")
	waiting     = desc("requests_waiting", "Requests that are not answered yet.")
	watches     = desc("watches", "Watches that are being followed.")
)

// Describe sends what the metrics are.
func (c collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range [...]*prometheus.Desc{connections, made, sessions, requests, seconds, waiting, watches} {
		to <- d
	}
}

// Collect sends the metrics as they are now.
func (c collector) Collect(to chan<- prometheus.Metric) {
	s := c.client.Stats()
	gauge := func(d *prometheus.Desc, v int, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	counter := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	gauge(connections, s.Connected)
	gauge(waiting, s.Waiting)
	gauge(watches, s.Watches)
	counter(made, float64(s.Connections))
	for phase, n := range s.Sessions {
		gauge(sessions, n, phase.String())
	}
	for _, r := range s.Requests {
		counter(requests, float64(r.Count), r.Operation, r.Outcome)
		counter(seconds, r.Total.Seconds(), r.Operation, r.Outcome)
	}
}
