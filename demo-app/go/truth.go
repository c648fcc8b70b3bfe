// Ground truth: what a planted fault really did, measured around the blocking call itself.

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"sync/atomic"
	"time"
)

// timedCall counts and times the executions of one call.
type timedCall struct {
	count   atomic.Uint64
	totalNs atomic.Int64
	maxNs   atomic.Int64
}

func (c *timedCall) record(took time.Duration) {
	c.count.Add(1)
	c.totalNs.Add(int64(took))
	storeMax(&c.maxNs, int64(took))
}

func storeMax(target *atomic.Int64, value int64) {
	for {
		old := target.Load()
		if value <= old || target.CompareAndSwap(old, value) {
			return
		}
	}
}

// blockedTruth is the `blocked` part of a truth line: the system call at the root.
type blockedTruth struct {
	Syscall   string `json:"syscall"`
	Function  string `json:"function"`
	Path      string `json:"path"`
	Count     uint64 `json:"count"`
	TotalNs   int64  `json:"total_ns"`
	MaxNs     int64  `json:"max_ns"`
	Goroutine uint64 `json:"goroutine"`
}

// channelTruth is the `channel` part: those who wait because of it.
type channelTruth struct {
	Sender      string `json:"sender"`
	Receiver    string `json:"receiver"`
	Sends       uint64 `json:"sends"`
	TotalWaitNs int64  `json:"total_wait_ns"`
	MaxWaitNs   int64  `json:"max_wait_ns"`
	Waiting     int64  `json:"waiting"`
	MaxWaiting  int64  `json:"max_waiting"`
}

// truth is what a scenario knows about itself; both parts are absent (null) in a healthy service.
type truth struct {
	Blocked *blockedTruth `json:"blocked"`
	Channel *channelTruth `json:"channel"`
}

type truthLine struct {
	Event     string `json:"event"`
	Scenario  string `json:"scenario"`
	ElapsedNs int64  `json:"elapsed_ns"`
	Final     bool   `json:"final"`
	truth
}

// truthTeller prints the truth lines of one run.
type truthTeller struct {
	scenario string
	started  time.Time
	tell     func() truth
}

func (t *truthTeller) print(final bool) error {
	return printJSON(truthLine{
		Event: "truth", Scenario: t.scenario, ElapsedNs: int64(time.Since(t.started)), Final: final, truth: t.tell(),
	})
}

// every prints a line each period until stop is closed, then closes the channel that it returned.
func (t *truthTeller) every(period time.Duration, stop <-chan struct{}) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if period == 0 {
			<-stop
			return
		}
		ticker := time.NewTicker(period)
		defer ticker.Stop()
		for {
			select {
			case <-stop:
				return
			case <-ticker.C:
				if err := t.print(false); err != nil {
					fmt.Fprintf(os.Stderr, "demo-app-go: %v; no more truth lines until the end\n", err)
					return
				}
			}
		}
	}()
	return done
}

// printJSON writes one JSON line to stdout. Everything for people goes to stderr.
func printJSON(value any) error {
	line, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("cannot encode a line for stdout: %w", err)
	}
	if _, err := os.Stdout.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("cannot write to stdout: %w", err)
	}
	return nil
}
