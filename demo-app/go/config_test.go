// Tests of the command line.

package main

import (
	"testing"
	"time"
)

func TestDurations(t *testing.T) {
	for text, wanted := range map[string]time.Duration{
		"500ms": 500 * time.Millisecond, "1": time.Second, "2.5s": 2500 * time.Millisecond, "3m": 3 * time.Minute, "1h": time.Hour,
	} {
		if got, err := parseDuration(text); err != nil || got != wanted {
			t.Errorf("parseDuration(%q) = %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "s", "0", "-1s", "5 s", "10d", "25h", "nan", "inf"} {
		if got, err := parseDuration(text); err == nil {
			t.Errorf("parseDuration(%q) = %v", text, got)
		}
	}
}

func TestUsageErrorsHaveExitCodeTwo(t *testing.T) {
	for _, args := range [][]string{
		{}, {"nonsense"}, {"serve", "--nonsense"}, {"serve", "--scenario", "nonsense"},
		{"serve", "--partitions", "0"}, {"serve", "--duration", "x"}, {"serve", "more"},
	} {
		if code := run(args); code != 2 {
			t.Errorf("run(%q) = %d", args, code)
		}
	}
}

func TestTheDefaultScenarioExists(t *testing.T) {
	if findScenario(defaultScenario) == nil {
		t.Errorf("there is no %q", defaultScenario)
	}
	seen := make(map[string]bool)
	for _, entry := range registry {
		if seen[entry.name] {
			t.Errorf("two scenarios are called %q", entry.name)
		}
		seen[entry.name] = true
	}
}
