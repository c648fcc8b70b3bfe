// Command demo-app-go is the Go twin of demo-app: the same short-link service with a fault planted
// in Go's own way, so that observer can be shown on goroutines. The load generator is demo-app's.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
)

const usage = `usage: demo-app-go serve [flags]

A short-link service with planted faults that print their ground truth.
`

func main() {
	os.Exit(run(os.Args[1:]))
}

// run returns the exit code: 0 ok, 1 failed, 2 usage.
func run(args []string) int {
	if len(args) == 0 || args[0] != "serve" {
		fmt.Fprint(os.Stderr, usage)
		if len(args) == 1 && (args[0] == "-h" || args[0] == "--help" || args[0] == "help") {
			return 0
		}
		return 2
	}
	config, err := parseServe(args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		// The flag package has said what is wrong on stderr.
		return 2
	}
	if err := serve(config); err != nil {
		fmt.Fprintf(os.Stderr, "demo-app-go: %v\n", err)
		return 1
	}
	return 0
}
