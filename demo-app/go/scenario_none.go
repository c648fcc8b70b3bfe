// none: the healthy service. Handlers hand their events straight to the batching producer.

package main

import "time"

type healthy struct{ out sink }

func openHealthy(_ string, out sink) (scenario, error) {
	return healthy{out}, nil
}

func (h healthy) publish(e event)          { h.out(e) }
func (healthy) truth() truth               { return truth{} }
func (healthy) stop(_ time.Duration) error { return nil }
