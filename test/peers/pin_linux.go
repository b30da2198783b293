package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/sessionring/sessionring/internal/redistest"
)

// pin puts all servers on one core and this process on another, with GOMAXPROCS 1 as Go would choose by itself if it
// were started there. release undoes it.
func pin(nodes []*redistest.Server) (release func() error, err error) {
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return nil, fmt.Errorf("sched_getaffinity: %w", err)
	}
	var cores []int
	for i := 0; i < len(before)*strconv.IntSize && len(cores) < 2; i++ {
		if before.IsSet(i) {
			cores = append(cores, i)
		}
	}
	if len(cores) < 2 {
		return nil, errors.New("one core only")
	}
	var theirs, ours unix.CPUSet
	theirs.Set(cores[0])
	ours.Set(cores[1])
	procs := runtime.GOMAXPROCS(1)
	release = func() error {
		err := place(nodes, &before, &before)
		runtime.GOMAXPROCS(procs)
		return err
	}
	if err := place(nodes, &theirs, &ours); err != nil {
		return nil, errors.Join(err, release())
	}
	return release, nil
}

func place(nodes []*redistest.Server, theirs, ours *unix.CPUSet) error {
	err := placeProcess(os.Getpid(), ours)
	for _, s := range nodes {
		err = errors.Join(err, placeProcess(s.PID(), theirs))
	}
	return err
}

// placeProcess places all threads of a process. A new thread takes over the place of the one that made it, so it is
// done when nobody new is found.
func placeProcess(pid int, set *unix.CPUSet) error {
	done := map[int]bool{}
	for {
		threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			return err
		}
		found := false
		for _, t := range threads {
			id, err := strconv.Atoi(t.Name())
			if err != nil || done[id] {
				continue
			}
			found, done[id] = true, true
			if err := unix.SchedSetaffinity(id, set); err != nil && !errors.Is(err, unix.ESRCH) { // it may have ended
				return fmt.Errorf("sched_setaffinity: %w", err)
			}
		}
		if !found {
			return nil
		}
	}
}
