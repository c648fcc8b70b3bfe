// The command line of serve: the flags of the Rust service, and --pprof.

package main

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"time"
)

// maxDuration bounds every duration, so that everything here is bounded in time.
const maxDuration = 24 * time.Hour

type config struct {
	listen     string
	scenario   string
	dataDir    string
	brokers    string
	topic      string
	partitions int
	duration   time.Duration
	truthEvery time.Duration
	pprof      bool
}

func parseServe(args []string) (config, error) {
	var c config
	flags := flag.NewFlagSet("demo-app-go serve", flag.ContinueOnError)
	flags.StringVar(&c.listen, "listen", "127.0.0.1:8081", "address to listen on; port 0 takes a free one and the ready line names it")
	flags.StringVar(&c.scenario, "scenario", defaultScenario, "the planted fault: "+scenarioNames())
	flags.StringVar(&c.dataDir, "data-dir", "", "directory for the scenario's files (default: a temporary one, removed at the end)")
	flags.StringVar(&c.brokers, "brokers", "", "Kafka bootstrap servers (default: a broker embedded in this process)")
	flags.StringVar(&c.topic, "topic", "clicks", "topic of the click events; created if it is missing")
	flags.IntVar(&c.partitions, "partitions", 3, "partitions of the topic when it has to be created (1 to 64)")
	flags.Func("duration", "stop after this long (500ms, 10s, 5m; a bare number is seconds)", intoDuration(&c.duration))
	flags.Func("truth-every", "print a truth line this often, besides the one at the end", intoDuration(&c.truthEvery))
	flags.BoolVar(&c.pprof, "pprof", false, "serve net/http/pprof under /debug/pprof/")
	if err := flags.Parse(args); err != nil {
		return c, err
	}
	var err error
	switch {
	case flags.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case findScenario(c.scenario) == nil:
		err = fmt.Errorf("there is no scenario %q; choose one of: %s", c.scenario, scenarioNames())
	case c.partitions < 1 || c.partitions > 64:
		err = fmt.Errorf("--partitions %d must be 1 to 64", c.partitions)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "demo-app-go: %v\n", err)
	}
	return c, err
}

func intoDuration(target *time.Duration) func(string) error {
	return func(text string) error {
		parsed, err := parseDuration(text)
		*target = parsed
		return err
	}
}

// parseDuration takes what time.ParseDuration takes, and a bare number as seconds.
func parseDuration(text string) (time.Duration, error) {
	if _, err := strconv.ParseFloat(text, 64); err == nil {
		text += "s"
	}
	parsed, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration: use a number with ms, s, m or h", text)
	}
	if parsed <= 0 || parsed > maxDuration {
		return 0, fmt.Errorf("%q must be more than 0 and at most 24h", text)
	}
	return parsed, nil
}
