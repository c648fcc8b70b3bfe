// The serve command: puts the parts together, announces readiness, stops in order.

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const (
	// drainLimit is how long open requests may take once the service has to stop.
	drainLimit = 5 * time.Second
	// flushLimit is how long queued events may take after that.
	flushLimit = 5 * time.Second
)

type readyLine struct {
	Event    string `json:"event"`
	Runtime  string `json:"runtime"`
	Pid      int    `json:"pid"`
	Listen   string `json:"listen"`
	Brokers  string `json:"brokers"`
	Topic    string `json:"topic"`
	Scenario string `json:"scenario"`
	DataDir  string `json:"data_dir"`
}

func serve(c config) (err error) {
	dataDir, removeData, err := openDataDir(c.dataDir)
	if err != nil {
		return err
	}
	defer removeData()
	m := newMetrics()
	kafka, err := startBroker(c.brokers)
	if err != nil {
		return err
	}
	defer kafka.close()
	out, err := connect(kafka.servers, c.topic, c.partitions, m)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.close(flushLimit)) }()
	planted, err := findScenario(c.scenario).open(dataDir, out.send)
	if err != nil {
		return err
	}

	// Before readiness is announced, so that no signal is lost.
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	listener, err := net.Listen("tcp", c.listen)
	if err != nil {
		return fmt.Errorf("cannot listen on %s: %w; choose another --listen", c.listen, err)
	}
	if err := printJSON(readyLine{
		Event: "ready", Runtime: "go", Pid: os.Getpid(), Listen: listener.Addr().String(),
		Brokers: kafka.servers, Topic: c.topic, Scenario: c.scenario, DataDir: dataDir,
	}); err != nil {
		return err
	}

	teller := &truthTeller{scenario: c.scenario, started: time.Now(), tell: planted.truth}
	stopTelling := make(chan struct{})
	told := teller.every(c.truthEvery, stopTelling)
	a := &app{links: newLinks(), metrics: m, scenario: planted}
	drained, served := listenUntil(ctx, listener, a.routes(c.pprof), c.duration)
	var stopped error
	if drained {
		stopped = planted.stop(flushLimit)
	}
	close(stopTelling)
	<-told
	return errors.Join(served, stopped, teller.print(true))
}

// listenUntil serves until the context ends or the duration (if any) is over, then lets open
// requests finish. It says whether they all did.
func listenUntil(ctx context.Context, listener net.Listener, handler http.Handler, duration time.Duration) (bool, error) {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	var over <-chan time.Time
	if duration > 0 {
		over = time.After(duration)
	}
	select {
	case err := <-ended:
		return false, fmt.Errorf("the HTTP server ended by itself: %w", err)
	case <-ctx.Done():
	case <-over:
	}
	drain, cancel := context.WithTimeout(context.Background(), drainLimit)
	defer cancel()
	if err := server.Shutdown(drain); err != nil {
		fmt.Fprintf(os.Stderr, "demo-app-go: some connections were still open after %v; closing them\n", drainLimit)
		return false, server.Close()
	}
	return true, nil
}

// openDataDir returns the directory of the scenario's files and what removes it.
func openDataDir(given string) (string, func(), error) {
	if given != "" {
		if err := os.MkdirAll(given, 0o755); err != nil {
			return "", nil, fmt.Errorf("cannot make the data directory: %w; choose another --data-dir", err)
		}
		return given, func() {}, nil
	}
	dir, err := os.MkdirTemp("", "demo-app-go-")
	if err != nil {
		return "", nil, fmt.Errorf("cannot make a temporary directory: %w; name one with --data-dir", err)
	}
	return dir, func() { os.RemoveAll(dir) }, nil
}
