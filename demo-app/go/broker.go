// Which Kafka to use: a named one, or franz-go's kfake inside this process.

package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	adminTimeout = 10 * time.Second
	// The embedded broker keeps records in memory: about so much in each partition.
	keepBytes    = "8388608"
	segmentBytes = "4194304"
	trimEvery    = 5 * time.Second
)

// broker is a Kafka that can be reached.
type broker struct {
	servers  string
	embedded *kfake.Cluster
	stopTrim chan struct{}
}

// startBroker starts the embedded broker unless servers names a running Kafka.
func startBroker(servers string) (*broker, error) {
	if servers != "" {
		return &broker{servers: servers}, nil
	}
	cluster, err := kfake.NewCluster(
		kfake.NumBrokers(1),
		kfake.BrokerConfigs(map[string]string{"log.retention.bytes": keepBytes, "log.segment.bytes": segmentBytes}),
	)
	if err != nil {
		return nil, fmt.Errorf("cannot start the embedded Kafka broker: %w", err)
	}
	b := &broker{servers: strings.Join(cluster.ListenAddrs(), ","), embedded: cluster, stopTrim: make(chan struct{})}
	go b.trimRecords()
	return b, nil
}

// trimRecords keeps the embedded broker's memory bounded; kfake does it only when asked.
func (b *broker) trimRecords() {
	ticker := time.NewTicker(trimEvery)
	defer ticker.Stop()
	for {
		select {
		case <-b.stopTrim:
			return
		case <-ticker.C:
			b.embedded.ApplyRetention()
		}
	}
}

func (b *broker) close() {
	if b.embedded != nil {
		close(b.stopTrim)
		b.embedded.Close()
	}
}

// ensureTopic creates the topic if it is missing.
func ensureTopic(client *kgo.Client, servers, topic string, partitions int) error {
	ctx, cancel := context.WithTimeout(context.Background(), adminTimeout)
	defer cancel()
	wanted := kmsg.NewCreateTopicsRequestTopic()
	wanted.Topic = topic
	wanted.NumPartitions = int32(partitions)
	wanted.ReplicationFactor = -1 // the broker's own default
	request := kmsg.NewPtrCreateTopicsRequest()
	request.TimeoutMillis = int32(adminTimeout / time.Millisecond)
	request.Topics = append(request.Topics, wanted)
	response, err := request.RequestWith(ctx, client)
	if err != nil {
		return fmt.Errorf("cannot use Kafka at %s: %w; check --brokers, or leave it out to use the embedded broker", servers, err)
	}
	for _, created := range response.Topics {
		if err := kerr.ErrorForCode(created.ErrorCode); err != nil && err != kerr.TopicAlreadyExists {
			return fmt.Errorf("Kafka at %s refused to create the topic %q: %w; create it there or choose another --topic", servers, topic, err)
		}
	}
	return nil
}
