// Tests of the channel-pileup scenario.

package main

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestSendersPileUpBehindTheConsumer(t *testing.T) {
	const senders = 8
	dir := t.TempDir()
	release := make(chan struct{})
	var published []string
	planted, err := openChannelPileup(dir, func(e event) {
		<-release
		published = append(published, string(e.value))
	})
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	for range senders {
		done.Go(func() { planted.publish(event{key: "k", value: []byte("{}")}) })
	}
	// One sender is served and held up in the sink; the others wait in the send.
	deadline := time.Now().Add(10 * time.Second)
	for planted.truth().Channel.Waiting != senders-1 || planted.truth().Channel.Sends != 1 {
		if time.Now().After(deadline) {
			t.Fatalf("no pile-up: %+v", planted.truth().Channel)
		}
		time.Sleep(time.Millisecond)
	}
	close(release)
	done.Wait()
	if err := planted.stop(10 * time.Second); err != nil {
		t.Fatal(err)
	}

	channel, blocked := planted.truth().Channel, planted.truth().Blocked
	if channel.Sends != senders || channel.Waiting != 0 || channel.MaxWaiting < senders-1 {
		t.Errorf("channel: %+v", channel)
	}
	if channel.MaxWaitNs > channel.TotalWaitNs || channel.TotalWaitNs <= 0 {
		t.Errorf("waits: %+v", channel)
	}
	if blocked.Count != senders || blocked.Goroutine == 0 || blocked.MaxNs <= 0 || blocked.MaxNs > blocked.TotalNs {
		t.Errorf("blocked: %+v", blocked)
	}
	log, err := os.ReadFile(filepath.Join(dir, "clicks.log"))
	if err != nil || string(log) != strings.Repeat("{}\n", senders) {
		t.Errorf("log %q, %v", log, err)
	}
	if len(published) != senders {
		t.Errorf("%d events reached the sink", len(published))
	}
}

func TestAMissingDirectoryIsAnError(t *testing.T) {
	if _, err := openChannelPileup(filepath.Join(t.TempDir(), "gone"), nil); err == nil {
		t.Error("it was opened")
	}
}

func TestGoroutineIDsDiffer(t *testing.T) {
	mine, other := goroutineID(), make(chan uint64)
	go func() { other <- goroutineID() }()
	if theirs := <-other; mine == 0 || theirs == 0 || mine == theirs {
		t.Errorf("ids %d and %d", mine, theirs)
	}
}
