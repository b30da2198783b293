package main

import (
	"os"
	"strconv"
	"strings"
)

// rss is this process's resident memory in bytes.
func rss() uint64 { return statusField("VmRSS:") }

// peakRSS is the most since resetPeakRSS.
func peakRSS() uint64 { return statusField("VmHWM:") }

// resetPeakRSS makes the kernel forget the peak; see proc_pid_clear_refs(5). Where it may not, the peak is since the
// start, which is still no less than the truth.
func resetPeakRSS() { _ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) }

func statusField(name string) uint64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) == 3 && f[0] == name && f[2] == "kB" {
			n, err := strconv.ParseUint(f[1], 10, 64)
			if err != nil {
				return 0
			}
			return n << 10
		}
	}
	return 0
}
