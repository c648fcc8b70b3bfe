// The HTTP routes, the same as those of the Rust service.

package main

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const maxBody = 16 << 10

// app is what the handlers share.
type app struct {
	links    *links
	metrics  *metrics
	scenario scenario
	clicks   clickSequence
}

func (a *app) routes(withPprof bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /resolve/{code}", a.resolve)
	mux.HandleFunc("POST /links", a.createLink)
	mux.HandleFunc("POST /load-results", a.loadResults)
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.metrics.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") })
	if withPprof {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return a.counted(mux)
}

func (a *app) resolve(w http.ResponseWriter, r *http.Request) {
	code := r.PathValue("code")
	target, ok := a.links.find(code)
	if !ok {
		problem(w, http.StatusNotFound, "no such link")
		return
	}
	a.publish(code, target)
	w.Header().Set("Location", target)
	w.WriteHeader(http.StatusFound)
}

// publish counts a lost event, and the redirect happens all the same: the visitor must not
// pay for the statistics.
func (a *app) publish(code, target string) {
	start := time.Now()
	e, err := a.clicks.event(code, target)
	if err != nil {
		a.metrics.failures.WithLabelValues("queue").Inc()
		return
	}
	a.scenario.publish(e)
	a.metrics.publishAll.Observe(time.Since(start).Seconds())
}

func (a *app) createLink(w http.ResponseWriter, r *http.Request) {
	var wanted struct {
		URL *string `json:"url"`
	}
	if !readJSON(w, r, &wanted) {
		return
	}
	if wanted.URL == nil {
		problem(w, http.StatusUnprocessableEntity, `missing field "url"`)
		return
	}
	code, err := a.links.create(*wanted.URL)
	switch {
	case errors.Is(err, errLinksFull):
		problem(w, http.StatusInsufficientStorage, err.Error())
	case err != nil:
		problem(w, http.StatusBadRequest, err.Error())
	default:
		writeJSON(w, http.StatusCreated, map[string]string{"code": code, "url": *wanted.URL})
	}
}

func (a *app) loadResults(w http.ResponseWriter, r *http.Request) {
	var summary loadSummary
	if readJSON(w, r, &summary) {
		a.metrics.loadResult(summary)
		w.WriteHeader(http.StatusNoContent)
	}
}

func readJSON(w http.ResponseWriter, r *http.Request, target any) bool {
	if kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); strings.TrimSpace(kind) != "application/json" {
		problem(w, http.StatusUnsupportedMediaType, "send JSON with Content-Type: application/json")
		return false
	}
	err := json.NewDecoder(r.Body).Decode(target)
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		problem(w, http.StatusRequestEntityTooLarge, err.Error())
	case err != nil:
		problem(w, http.StatusBadRequest, "not the expected JSON: "+err.Error())
	}
	return err == nil
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// A caller that is gone gets no answer; there is nobody left to tell.
	_ = json.NewEncoder(w).Encode(value)
}

func problem(w http.ResponseWriter, status int, text string) {
	writeJSON(w, status, map[string]string{"error": text})
}

// statusWriter remembers the status.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach what is below, as pprof does.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (a *app) counted(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		recorded := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		// With the server's own writer: only so does it know to close the connection gently.
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		mux.ServeHTTP(recorded, r)
		// The pattern, not the path: a label must not take any value a caller likes.
		route := "other"
		if _, path, found := strings.Cut(r.Pattern, " "); found {
			route = path
		}
		a.metrics.request(route, recorded.status, time.Since(start))
	})
}
