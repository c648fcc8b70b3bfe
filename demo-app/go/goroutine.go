// The id of the running goroutine, for the ground truth only.

package main

import (
	"bytes"
	"runtime"
	"strconv"
)

// goroutineID reads the id from the header of the goroutine's own stack dump ("goroutine 18 [running]:"),
// the only place where Go tells it; 0 if that header ever changes.
func goroutineID() uint64 {
	var buffer [64]byte
	header := buffer[:runtime.Stack(buffer[:], false)]
	fields := bytes.Fields(header)
	if len(fields) < 2 {
		return 0
	}
	id, err := strconv.ParseUint(string(fields[1]), 10, 64)
	if err != nil {
		return 0
	}
	return id
}
