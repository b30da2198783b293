package main

import (
	"fmt"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sessionring/sessionring/internal/redistest"
)

// Pinned, every thread of the servers is on one core and every thread of this process on another; afterwards all is as
// it was.
func TestPin(t *testing.T) {
	nodes := redistest.Nodes(t, 2)
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		t.Fatal(err)
	}
	if before.Count() < 2 {
		t.Skip("one core only")
	}
	procs := runtime.GOMAXPROCS(0)
	release, err := pin(nodes)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := placesOf(t, os.Getpid()), placesOf(t, nodes[0].PID(), nodes[1].PID())
	if err := release(); err != nil {
		t.Fatal(err)
	}
	if len(ours) != 1 || len(theirs) != 1 {
		t.Fatalf("not in one place: %v, %v", ours, theirs)
	}
	for o := range ours {
		if theirs[o] || o.Count() != 1 {
			t.Errorf("ours on %v, theirs on %v", ours, theirs)
		}
	}
	if after := placesOf(t, os.Getpid(), nodes[0].PID(), nodes[1].PID()); len(after) != 1 || !after[before] {
		t.Errorf("%v afterwards, %v before", after, before)
	}
	if now := runtime.GOMAXPROCS(0); now != procs {
		t.Errorf("GOMAXPROCS %d afterwards, %d before", now, procs)
	}
}

func placesOf(t *testing.T, pids ...int) map[unix.CPUSet]bool {
	t.Helper()
	places := map[unix.CPUSet]bool{}
	for _, pid := range pids {
		threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			t.Fatal(err)
		}
		for _, thread := range threads {
			var id int
			if _, err := fmt.Sscan(thread.Name(), &id); err != nil {
				t.Fatal(err)
			}
			var set unix.CPUSet
			if err := unix.SchedGetaffinity(id, &set); err != nil {
				continue // it ended
			}
			places[set] = true
		}
	}
	return places
}
