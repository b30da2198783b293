package phptest

import (
	"context"
	"os"
	"time"

	"github.com/sessionring/sessionring/internal/redistest"
)

// Require skips the test where there is no PHP with the redis extension; with
// $SESSIONRING_REQUIRE=1, as in continuous integration, it fails instead.
func Require(t redistest.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if _, err := Find(ctx); err != nil {
		if os.Getenv("SESSIONRING_REQUIRE") != "1" {
			t.Skipf("needs PHP: %v", err)
		}
		t.Fatalf("%v", err)
	}
}

// MustRun runs a script that is to end well and without a word on standard
// error, and returns what it printed.
func MustRun(t redistest.TB, s Script) string {
	t.Helper()
	Require(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	stdout, stderr, err := Run(ctx, s)
	if err != nil {
		t.Fatalf("%v\nprinted: %s", err, stdout)
	}
	if stderr != "" {
		t.Fatalf("PHP complains: %s", stderr)
	}
	return stdout
}

// Serve starts a server that ends with the test.
func Serve(t redistest.TB, app App) *Server {
	t.Helper()
	Require(t)
	s, err := Start(context.Background(), app)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("PHP's log:\n%s", s.Log())
		}
		s.Stop()
	})
	return s
}
