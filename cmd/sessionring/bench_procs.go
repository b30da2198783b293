package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"
)

const (
	benchTickEvery = 200 * time.Millisecond // between two words of a worker's progress
	benchStartIn   = 100 * time.Millisecond // from "all are ready" to the common start
	benchExitTime  = 10 * time.Second       // for a worker that has told its result
)

// benchTeam is the load of one bench: in this process, or in several.
type benchTeam interface {
	// fill writes all sessions.
	fill(ctx context.Context, progress func(int64)) error
	// run runs the load; when ctx ends it comes to an end soon, with what there is.
	run(ctx context.Context, start time.Time, progress func(int64)) (*benchResult, error)
	// close ends it all. Nothing is written to the nodes afterwards.
	close() error
}

// benchSolo is a load within this process.
type benchSolo struct{ *benchWorker }

func (s benchSolo) fill(ctx context.Context, progress func(int64)) error {
	return s.benchWorker.fill(ctx, func() { progress(1) })
}

func (s benchSolo) run(ctx context.Context, start time.Time, progress func(int64)) (*benchResult, error) {
	return s.benchWorker.run(ctx, start, func() { progress(1) })
}

// benchVoice writes a worker's words.
type benchVoice struct {
	mu   sync.Mutex
	enc  *json.Encoder
	done atomic.Int64
}

func (v *benchVoice) count() { v.done.Add(1) }

func (v *benchVoice) say(w benchWord) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.enc.Encode(w)
}

// tick tells of the progress until the function that it returns is called.
func (v *benchVoice) tick(ctx context.Context) func() {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(benchTickEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if n := v.done.Swap(0); n > 0 && v.say(benchWord{Progress: n}) != nil {
					return
				}
			}
		}
	})
	return func() { cancel(); wg.Wait() }
}

// benchProcs is a load in processes of its own.
type benchProcs struct {
	procs []*benchProc
}

type benchProc struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *json.Decoder
	once   sync.Once
	result *benchResult
	exited chan error
}

// startBenchProcs starts this very program once for each job. worker is its command line.
func startBenchProcs(worker []string, stderr io.Writer, jobs []benchJob) (*benchProcs, error) {
	team := &benchProcs{}
	if _, file := stderr.(*os.File); !file {
		stderr = &lockedWriter{w: stderr}
	}
	for _, job := range jobs {
		p := &benchProc{cmd: exec.Command(worker[0], worker[1:]...), exited: make(chan error, 1)} //nolint:noctx // ends with its standard input
		p.cmd.Env = append(os.Environ(), benchWorkerEnv+"=1")
		p.cmd.Stderr = stderr
		in, err := p.cmd.StdinPipe()
		if err != nil {
			return nil, errors.Join(err, team.close())
		}
		out, err := p.cmd.StdoutPipe()
		if err != nil {
			return nil, errors.Join(err, team.close())
		}
		if err := p.cmd.Start(); err != nil {
			return nil, errors.Join(fmt.Errorf("cannot start a process for the load: %w", err), team.close())
		}
		p.in, p.out = in, json.NewDecoder(out)
		team.procs = append(team.procs, p)
		if err := json.NewEncoder(in).Encode(job); err != nil {
			return nil, errors.Join(fmt.Errorf("cannot tell a process what to do: %w", err), team.close())
		}
	}
	return team, nil
}

// lockedWriter lets several processes write to what is no file.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

// benchWorkerEnv marks the processes of a load, for tests, whose program is another.
const benchWorkerEnv = "SESSIONRING_BENCH_WORKER"

// hear reads words until one ends the phase: ready or a result.
func (p *benchProc) hear(progress func(int64)) (benchWord, error) {
	for {
		var w benchWord
		if err := p.out.Decode(&w); err != nil {
			return w, fmt.Errorf("a process of the load ended without a result: %w", err)
		}
		switch {
		case w.Error != "":
			return w, errors.New(w.Error)
		case w.Filled, w.Result != nil:
			return w, nil
		default:
			progress(w.Progress)
		}
	}
}

// each runs f for every process at a time and returns the first errors, joined.
func (t *benchProcs) each(f func(p *benchProc) error) error {
	errs := make([]error, len(t.procs))
	var wg sync.WaitGroup
	for i, p := range t.procs {
		wg.Go(func() { errs[i] = f(p) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (t *benchProcs) fill(ctx context.Context, progress func(int64)) error {
	stop := context.AfterFunc(ctx, t.stop)
	defer stop()
	err := t.each(func(p *benchProc) error { _, err := p.hear(progress); return err })
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func (t *benchProcs) run(ctx context.Context, start time.Time, progress func(int64)) (*benchResult, error) {
	err := t.each(func(p *benchProc) error { return json.NewEncoder(p.in).Encode(benchOrder{Start: start.UnixNano()}) })
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, t.stop)
	defer stop()
	err = t.each(func(p *benchProc) error {
		w, err := p.hear(progress)
		p.result = w.Result
		return err
	})
	total := &benchResult{}
	for _, p := range t.procs {
		if p.result != nil {
			total.merge(p.result)
		}
	}
	return total, err
}

// stop tells the processes to come to an end, by ending their input.
func (t *benchProcs) stop() {
	for _, p := range t.procs {
		p.once.Do(func() { _ = p.in.Close() })
	}
}

// close stops the processes and waits for them; one that does not end is killed.
func (t *benchProcs) close() error {
	t.stop()
	return t.each(func(p *benchProc) error {
		go func() {
			// What it still says must be read before Wait, which closes the pipe.
			_, _ = io.Copy(io.Discard, p.out.Buffered())
			for {
				var w benchWord
				if p.out.Decode(&w) != nil {
					break
				}
			}
			p.exited <- p.cmd.Wait()
		}()
		select {
		case <-p.exited:
		case <-time.After(benchExitTime):
			_ = p.cmd.Process.Kill()
			<-p.exited
		}
		return nil // what went wrong it has told
	})
}
