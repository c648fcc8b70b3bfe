// The click event: what is published for every redirect.

package main

import (
	"encoding/json"
	"sync/atomic"
	"time"
)

// click is one resolved link, in the format of the Rust service.
type click struct {
	Code string `json:"code"`
	URL  string `json:"url"`
	AtMs int64  `json:"at_ms"`
	Seq  uint64 `json:"seq"`
}

// event is an encoded click with the key of its Kafka record.
type event struct {
	key   string
	value []byte
}

// clickSequence numbers the clicks of one process from 1: a consumer sees what is missing.
type clickSequence struct{ last atomic.Uint64 }

func (s *clickSequence) event(code, url string) (event, error) {
	value, err := json.Marshal(click{Code: code, URL: url, AtMs: time.Now().UnixMilli(), Seq: s.last.Add(1)})
	return event{key: code, value: value}, err
}
