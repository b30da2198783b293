package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sessionring/sessionring/internal/redistest"
)

// benchFault is something done to a node of the bench's own.
type benchFault struct {
	Kind string        // kill, hang, restart, restart-empty
	At   time.Duration // since the measuring began
	For  time.Duration // of hang
	Node int
}

// benchFaultDone is a fault as it happened.
type benchFaultDone struct {
	Kind  string  `json:"kind"`
	Node  int     `json:"node"`
	At    float64 `json:"at"`    // seconds since the measuring began
	Until float64 `json:"until"` // when a hang ended or a restarted node answered; else At
	Error string  `json:"error,omitempty"`
}

// String is for people: "kill node 1 at 3s".
func (f benchFault) String() string {
	s := fmt.Sprintf("%s node %d at %v", f.Kind, f.Node, f.At)
	if f.For > 0 {
		s += fmt.Sprintf(" for %v", f.For)
	}
	return s
}

// parseBenchFaults reads AT[:NODE], and AT:FOR[:NODE] for hang.
func parseBenchFaults(kind string, texts []string) ([]benchFault, error) {
	var out []benchFault
	form, durations := "AT[:NODE], as 3s or 3s:1", 1
	if kind == "hang" {
		form, durations = "AT:FOR[:NODE], as 3s:2s or 3s:2s:1", 2
	}
	for _, text := range texts {
		parts := strings.Split(text, ":")
		bad := func() error { return usagef("--%s %s: write %s", kind, text, form) }
		if len(parts) < durations || len(parts) > durations+1 {
			return nil, bad()
		}
		f := benchFault{Kind: kind}
		var err error
		if f.At, err = time.ParseDuration(parts[0]); err != nil || f.At < 0 {
			return nil, bad()
		}
		if durations == 2 {
			if f.For, err = time.ParseDuration(parts[1]); err != nil || f.For <= 0 {
				return nil, bad()
			}
		}
		if len(parts) > durations {
			if f.Node, err = strconv.Atoi(parts[durations]); err != nil || f.Node < 0 {
				return nil, bad()
			}
		}
		out = append(out, f)
	}
	return out, nil
}

// startBenchNodes starts nodes for one bench.
func startBenchNodes(ctx context.Context, n int, faults []benchFault) ([]*redistest.Server, error) {
	o := redistest.Options{
		// Only a node that is to come back with its data pays for keeping it.
		AppendOnly: slices.ContainsFunc(faults, func(f benchFault) bool { return f.Kind == "restart" }),
	}
	servers, err := redistest.StartNodes(ctx, n, o)
	if errors.Is(err, redistest.ErrNoServer) {
		return nil, errors.New("--nodes needs redis-server or valkey-server on the PATH, and there is neither: install one (on Debian: apt install redis-server), or give the save_path of nodes that run")
	}
	if err != nil {
		return nil, fmt.Errorf("cannot start the nodes: %w", err)
	}
	return servers, nil
}

// runBenchFaults does the faults at their times and returns once all are done, or given up because ctx ended:
// hung nodes are awake then.
func runBenchFaults(ctx context.Context, begin time.Time, servers []*redistest.Server, faults []benchFault) []benchFaultDone {
	done := make([]benchFaultDone, len(faults))
	happened := make([]bool, len(faults))
	var wg sync.WaitGroup
	for i, f := range faults {
		wg.Go(func() {
			if !sleepUntil(ctx, begin.Add(f.At)) {
				return
			}
			happened[i] = true
			d := benchFaultDone{Kind: f.Kind, Node: f.Node, At: time.Since(begin).Seconds()}
			err := f.do(ctx, servers[f.Node])
			if d.Until = time.Since(begin).Seconds(); f.Kind == "kill" {
				d.Until = d.At
			}
			if err != nil {
				d.Error = err.Error()
			}
			done[i] = d
		})
	}
	wg.Wait()
	out := []benchFaultDone{}
	for i, d := range done {
		if happened[i] {
			out = append(out, d)
		}
	}
	slices.SortStableFunc(out, func(a, b benchFaultDone) int { return cmp.Compare(a.At, b.At) })
	return out
}

func (f benchFault) do(ctx context.Context, s *redistest.Server) error {
	switch f.Kind {
	case "kill":
		return s.Kill()
	case "hang":
		if err := s.Pause(); err != nil {
			return err
		}
		sleepUntil(ctx, time.Now().Add(f.For))
		return s.Resume()
	case "restart":
		if err := s.Kill(); err != nil { // not a shutdown: what comes back is what a crash leaves
			return err
		}
		return s.Restart(ctx)
	case "restart-empty":
		return s.RestartEmpty(ctx)
	}
	return fmt.Errorf("no such fault: %s", f.Kind)
}

func sleepUntil(ctx context.Context, t time.Time) bool {
	select {
	case <-time.After(time.Until(t)):
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
