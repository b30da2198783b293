package websession

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/sessionring/sessionring"
	"github.com/sessionring/sessionring/internal/redistest"
)

// All of it on a Redis Cluster, where the engine places the keys.
func TestOnRedisCluster(t *testing.T) {
	cluster := redistest.StartClusterFor(t, 3, 0)
	client, err := sessionring.Open(cluster.SavePath())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	m, err := New(client, Options{RegenerateGrace: time.Minute, Lock: LockRequests})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	for path, h := range accountRoutes {
		mux.HandleFunc(path, h)
	}
	srv := httptest.NewServer(m.Wrap(mux))
	t.Cleanup(srv.Close)
	b := newBrowser(t, srv)
	b.get("/put?key=cart&value=book")
	tab := b.twin()
	b.get("/login?user=ann")
	for who, br := range map[string]*browser{"new id": b, "old id": tab} {
		if got := br.get("/show?key=cart") + br.get("/show?key=user"); got != "bookann" {
			t.Errorf("by the %s: %s", who, got)
		}
	}
	tab.get("/put?key=late&value=yes")
	if got := b.get("/show?key=late"); got != "yes" {
		t.Errorf("written by the old id: %s", got)
	}
	ctx := context.Background()
	if list, err := m.SessionsOf(ctx, "ann"); err != nil || len(list) != 1 {
		t.Errorf("%d sessions, %v", len(list), err)
	}
	if n, err := m.DestroyAll(ctx, "ann"); err != nil || n != 1 {
		t.Errorf("%d ended, %v", n, err)
	}
	if got := b.get("/show?key=user"); got != "-" {
		t.Errorf("after logging out everywhere: %s", got)
	}
}
