package websession

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/sessionring/sessionring/internal/redistest"
)

func newRecorder() *httptest.ResponseRecorder { return httptest.NewRecorder() }

func serve(t *testing.T, h http.Handler) *httptest.Server {
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv
}

// monitors watches what the nodes are told.
func monitors(t *testing.T, nodes []*redistest.Server) []*redistest.Monitor {
	t.Helper()
	var out []*redistest.Monitor
	for _, n := range nodes {
		m, err := n.Monitor(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { m.Stop() })
		out = append(out, m)
	}
	return out
}

// commands returns what was seen, with what scripts called.
func commands(t *testing.T, mons []*redistest.Monitor) (out []redistest.Command) {
	t.Helper()
	for _, m := range mons {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		cmds, err := m.Commands(ctx)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, cmds...)
	}
	return out
}

// carriedOut sums up what the nodes did to a session, directly or in scripts: how often its life was extended,
// and which commands wrote data.
func carriedOut(t *testing.T, mons []*redistest.Monitor, id string) (extended int, wrote []string) {
	t.Helper()
	for _, c := range commands(t, mons) {
		if len(c.Args) < 2 || c.Args[1] != "PHPREDIS_SESSION:"+id {
			continue
		}
		switch c.Name() {
		case "EXPIRE", "PEXPIRE":
			extended++
		case "GET", "MGET", "PTTL", "TTL", "TYPE", "EXISTS", "STRLEN":
		default:
			wrote = append(wrote, c.Name())
		}
	}
	return extended, wrote
}

// ttl returns the longest life of a session's values on the nodes.
func ttl(t *testing.T, st *site, id string) (d time.Duration) {
	t.Helper()
	for _, n := range st.nodes {
		v, err := n.Do("PTTL", "PHPREDIS_SESSION:"+id)
		if err != nil {
			t.Fatal(err)
		}
		d = max(d, time.Duration(v.(int64))*time.Millisecond)
	}
	return d
}
