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

// commands returns what was seen, without what scripts called.
func commands(t *testing.T, mons []*redistest.Monitor) (out []redistest.Command) {
	t.Helper()
	for _, m := range mons {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		cmds, err := m.Commands(ctx)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range cmds {
			if c.Source != "lua" {
				out = append(out, c)
			}
		}
	}
	return out
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
