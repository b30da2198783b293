package redistest

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// recorder is a TB that notes how its test ends.
type recorder struct {
	TB
	skipped, failed string
}

func (r *recorder) Helper() {}

func (r *recorder) Skipf(format string, args ...any) {
	r.skipped = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.failed = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func record(f func(TB)) *recorder {
	r := &recorder{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(r)
	}()
	<-done
	return r
}

func TestMissingServerSkipsUnlessRequired(t *testing.T) {
	t.Setenv("REDIS_SERVER", "no-such-server")
	starts := map[string]func(TB){
		"Nodes":      func(t TB) { Nodes(t, 2) },
		"Cluster":    func(t TB) { StartClusterFor(t, 3, 0) },
		"FindOrSkip": FindOrSkip,
	}
	for name, start := range starts {
		t.Setenv(requireEnv, "")
		if r := record(start); !strings.Contains(r.skipped, "needs a real server") || r.failed != "" {
			t.Errorf("%s: skipped %q, failed %q", name, r.skipped, r.failed)
		}
		t.Setenv(requireEnv, "1")
		if r := record(start); !strings.Contains(r.failed, "no-such-server") || r.skipped != "" {
			t.Errorf("%s, required: skipped %q, failed %q", name, r.skipped, r.failed)
		}
	}
	// What is no missing server is never a reason to skip.
	t.Setenv("REDIS_SERVER", "true")
	t.Setenv(requireEnv, "")
	if r := record(starts["Nodes"]); r.failed == "" {
		t.Errorf("a program that is no server: skipped %q", r.skipped)
	}
}
