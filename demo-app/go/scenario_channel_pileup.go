// channel-pileup: handlers send to an unbuffered channel whose only consumer waits for the disk
// after every event. The handlers queue up in the send, though what is slow is the fsync.

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// maxLogBytes is where the click log starts over, so that a forgotten demo never fills a disk.
const maxLogBytes = 64 << 20

type channelPileup struct {
	clicks   chan event
	out      sink
	log      *os.File
	logBytes int64
	stopped  chan struct{}

	fsync    timedCall
	send     timedCall
	consumer atomic.Uint64
	waiting  atomic.Int64
	maxWait  atomic.Int64
	failed   atomic.Bool
}

func openChannelPileup(dataDir string, out sink) (scenario, error) {
	log, err := os.OpenFile(filepath.Join(dataDir, "clicks.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("cannot open the click log: %w; choose another --data-dir", err)
	}
	info, err := log.Stat()
	if err != nil {
		log.Close()
		return nil, fmt.Errorf("cannot read the size of the click log: %w", err)
	}
	p := &channelPileup{clicks: make(chan event), out: out, log: log, logBytes: info.Size(), stopped: make(chan struct{})}
	go consumeClicks(p)
	return p, nil
}

func (p *channelPileup) publish(e event) { publishClick(p, e) }

// publishClick is where the handlers wait.
//
//go:noinline
func publishClick(p *channelPileup, e event) {
	storeMax(&p.maxWait, p.waiting.Add(1))
	start := time.Now()
	p.clicks <- e
	took := time.Since(start)
	p.waiting.Add(-1)
	p.send.record(took)
}

// consumeClicks is the only receiver.
//
//go:noinline
func consumeClicks(p *channelPileup) {
	defer close(p.stopped)
	p.consumer.Store(goroutineID())
	for e := range p.clicks {
		if err := appendClickLog(p, e); err != nil && !p.failed.Swap(true) {
			// Said once: the events still go to Kafka, and a full disk would say it for each.
			fmt.Fprintf(os.Stderr, "demo-app-go: cannot write the click log: %v\n", err)
		}
		p.out(e)
	}
}

// appendClickLog appends one line and waits for the disk.
//
//go:noinline
func appendClickLog(p *channelPileup, e event) error {
	if p.logBytes > maxLogBytes {
		if err := p.log.Truncate(0); err != nil {
			return err
		}
		p.logBytes = 0
	}
	line := make([]byte, 0, len(e.value)+1)
	line = append(append(line, e.value...), '\n')
	n, err := p.log.Write(line)
	p.logBytes += int64(n)
	if err != nil {
		return err
	}
	start := time.Now()
	err = p.log.Sync()
	p.fsync.record(time.Since(start))
	return err
}

func (p *channelPileup) truth() truth {
	return truth{
		Blocked: &blockedTruth{
			Syscall: "fsync", Function: "main.appendClickLog", Path: p.log.Name(),
			Count: p.fsync.count.Load(), TotalNs: p.fsync.totalNs.Load(), MaxNs: p.fsync.maxNs.Load(),
			Goroutine: p.consumer.Load(),
		},
		Channel: &channelTruth{
			Sender: "main.publishClick", Receiver: "main.consumeClicks",
			Sends: p.send.count.Load(), TotalWaitNs: p.send.totalNs.Load(), MaxWaitNs: p.send.maxNs.Load(),
			Waiting: p.waiting.Load(), MaxWaiting: p.maxWait.Load(),
		},
	}
}

func (p *channelPileup) stop(limit time.Duration) error {
	close(p.clicks)
	select {
	case <-p.stopped:
		return p.log.Close()
	case <-time.After(limit):
		return fmt.Errorf("the click log was still being written after %v", limit)
	}
}
