// The service's own metrics, with the names of the Rust service.

package main

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	registry        *prometheus.Registry
	requests        *prometheus.CounterVec
	requestSeconds  *prometheus.HistogramVec
	publishes       prometheus.Counter
	deliveries      prometheus.Counter
	failures        *prometheus.CounterVec
	publishOnly     prometheus.Observer
	publishAll      prometheus.Observer
	deliverySeconds prometheus.Histogram
	loadRequests    prometheus.Gauge
	loadErrors      prometheus.Gauge
	loadRate        prometheus.Gauge
	loadLatency     *prometheus.GaugeVec
}

// loadSummary is what demo-app's load generator pushes.
type loadSummary struct {
	Requests uint64  `json:"requests"`
	Errors   uint64  `json:"errors"`
	RPS      float64 `json:"rps"`
	P50Ns    uint64  `json:"p50_ns"`
	P99Ns    uint64  `json:"p99_ns"`
	MaxNs    uint64  `json:"max_ns"`
}

func newMetrics() *metrics {
	registry := prometheus.NewRegistry()
	// 50 µs to about 13 s, doubling.
	buckets := prometheus.ExponentialBuckets(50e-6, 2, 19)
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		registry.MustRegister(c)
		return c
	}
	histogram := func(name, help string, labels ...string) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
		registry.MustRegister(h)
		return h
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
		registry.MustRegister(g)
		return g
	}
	publishSeconds := histogram("demo_publish_duration_seconds",
		"Publish path of a request: part=publish is handing the event to the Kafka client, part=all is all of it.", "part")
	m := &metrics{
		registry:        registry,
		requests:        counter("demo_requests_total", "Requests answered, by route and status.", "route", "status"),
		requestSeconds:  histogram("demo_request_duration_seconds", "Time to answer a request, by route.", "route"),
		publishes:       counter("demo_publishes_total", "Click events handed to the Kafka client.").WithLabelValues(),
		deliveries:      counter("demo_deliveries_total", "Click events acknowledged by the broker.").WithLabelValues(),
		failures:        counter("demo_publish_failures_total", "Click events lost, by stage.", "stage"),
		publishOnly:     publishSeconds.WithLabelValues("publish"),
		publishAll:      publishSeconds.WithLabelValues("all"),
		deliverySeconds: histogram("demo_delivery_duration_seconds", "From handing an event to the Kafka client to the broker's acknowledgement.").WithLabelValues().(prometheus.Histogram),
		loadRequests:    gauge("demo_load_requests", "Requests answered in the last load run.").WithLabelValues(),
		loadErrors:      gauge("demo_load_errors", "Requests that failed in the last load run.").WithLabelValues(),
		loadRate:        gauge("demo_load_requests_per_second", "Throughput of the last load run.").WithLabelValues(),
		loadLatency:     gauge("demo_load_latency_seconds", "Latency seen by the last load run.", "quantile"),
	}
	for _, stage := range []string{"scenario", "queue", "delivery"} {
		m.failures.WithLabelValues(stage)
	}
	return m
}

// request counts one answered request; route is the pattern, never the path that was asked for.
func (m *metrics) request(route string, status int, took time.Duration) {
	m.requests.WithLabelValues(route, strconv.Itoa(status)).Inc()
	m.requestSeconds.WithLabelValues(route).Observe(took.Seconds())
}

// loadResult shows the load generator's last summary.
func (m *metrics) loadResult(s loadSummary) {
	m.loadRequests.Set(float64(s.Requests))
	m.loadErrors.Set(float64(s.Errors))
	m.loadRate.Set(s.RPS)
	for quantile, ns := range map[string]uint64{"0.5": s.P50Ns, "0.99": s.P99Ns, "1": s.MaxNs} {
		m.loadLatency.WithLabelValues(quantile).Set(float64(ns) / 1e9)
	}
}
