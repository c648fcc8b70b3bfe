// The publish path to Kafka: one reused producer that batches, and never a wait for an
// acknowledgement inside a request.

package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

type publisher struct {
	client  *kgo.Client
	metrics *metrics
}

// connect checks that the topic can be reached: a service that cannot publish should not say that
// it is ready.
func connect(servers, topic string, partitions int, m *metrics) (*publisher, error) {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(servers, ",")...),
		kgo.ClientID("demo-app-go"),
		kgo.DefaultProduceTopic(topic),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerLinger(5*time.Millisecond),
		kgo.MaxBufferedRecords(100_000),
		kgo.RecordDeliveryTimeout(30*time.Second),
	)
	if err != nil {
		return nil, fmt.Errorf("cannot create the Kafka producer for %s: %w; check --brokers", servers, err)
	}
	if err := ensureTopic(client, servers, topic, partitions); err != nil {
		client.Close()
		return nil, err
	}
	return &publisher{client: client, metrics: m}, nil
}

// send queues one event. A full queue holds the caller back (back-pressure) instead of dropping it.
func (p *publisher) send(e event) {
	start := time.Now()
	record := &kgo.Record{Key: []byte(e.key), Value: e.value}
	p.client.Produce(context.Background(), record, func(_ *kgo.Record, err error) {
		if err != nil {
			p.metrics.failures.WithLabelValues("delivery").Inc()
			return
		}
		p.metrics.deliveries.Inc()
		p.metrics.deliverySeconds.Observe(time.Since(start).Seconds())
	})
	p.metrics.publishes.Inc()
	p.metrics.publishOnly.Observe(time.Since(start).Seconds())
}

// close waits until every queued event is acknowledged or lost.
func (p *publisher) close(limit time.Duration) error {
	defer p.client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := p.client.Flush(ctx); err != nil {
		left := p.client.BufferedProduceRecords()
		return fmt.Errorf("%d click events were not acknowledged within %v; they are lost", left, limit)
	}
	return nil
}
