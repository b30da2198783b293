package websession

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/sessionring/sessionring"
	"github.com/sessionring/sessionring/internal/redistest"
)

// nothing is a ResponseWriter that costs nothing.
type nothing struct{ h http.Header }

func (n *nothing) Header() http.Header         { return n.h }
func (n *nothing) Write(b []byte) (int, error) { return len(b), nil }
func (n *nothing) WriteHeader(int)             {}

// BenchmarkRequest is a whole request without the network to the browser.
func BenchmarkRequest(b *testing.B) {
	node, err := redistest.Start(b.Context(), redistest.Options{})
	if err != nil {
		b.Skip(err)
	}
	defer node.Stop()
	client, err := sessionring.Open(node.SavePath())
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	m, err := New(client, Options{})
	if err != nil {
		b.Fatal(err)
	}
	read := m.Wrap(http.HandlerFunc(show))
	write := m.Wrap(http.HandlerFunc(counter))
	w := httptest.NewRecorder()
	write.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	cookie := w.Result().Cookies()[0]
	for name, tc := range map[string]struct {
		h      http.Handler
		cookie bool
	}{
		"bare":    {http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(nil) }), false},
		"unused":  {m.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(nil) })), true},
		"visitor": {read, false},
		"read":    {read, true},
		"change":  {write, true},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			r := httptest.NewRequest("GET", "/?key=a", nil)
			if tc.cookie {
				r.AddCookie(cookie)
			}
			for b.Loop() {
				tc.h.ServeHTTP(&nothing{http.Header{}}, r)
			}
		})
	}
}
