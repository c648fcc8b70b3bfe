// The planted faults: one file and one entry of the registry each.

package main

import (
	"strings"
	"time"
)

// defaultScenario is the scenario of serve without --scenario.
const defaultScenario = "channel-pileup"

// registry holds all scenarios, in the order in which the help lists them.
var registry = []scenarioEntry{
	{"none", openHealthy},
	{"channel-pileup", openChannelPileup},
}

// sink hands an event to Kafka.
type sink func(event)

// scenarioEntry says how a scenario is found and started. Its name is the name of the rule that
// should find it; open gets a directory that exists.
type scenarioEntry struct {
	name string
	open func(dataDir string, out sink) (scenario, error)
}

// scenario is a fault on the publish path.
type scenario interface {
	// publish runs in the request's goroutine.
	publish(event)
	// truth says what the fault did so far.
	truth() truth
	// stop ends it and waits for what was accepted, at most so long. No publish may be running or
	// follow.
	stop(limit time.Duration) error
}

func findScenario(name string) *scenarioEntry {
	for i := range registry {
		if registry[i].name == name {
			return &registry[i]
		}
	}
	return nil
}

func scenarioNames() string {
	names := make([]string, 0, len(registry))
	for _, entry := range registry {
		names = append(names, entry.name)
	}
	return strings.Join(names, ", ")
}
