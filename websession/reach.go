package websession

import (
	"bufio"
	"net"
	"net/http"
)

// reach gives w the Flush and Hijack that it only has further in, behind Unwrap: an http.ResponseController
// would otherwise go past the hooks to what is inside, and the first byte past the session's cookie.
func reach(w http.ResponseWriter) http.ResponseWriter {
	flush, hijack := flushes(w), hijacks(w)
	flushInside, hijackInside := flush, hijack
	for in := w; !flushInside || !hijackInside; {
		u, ok := in.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			break
		}
		in = u.Unwrap()
		flushInside, hijackInside = flushInside || flushes(in), hijackInside || hijacks(in)
	}
	switch {
	case flush == flushInside && hijack == hijackInside:
		return w
	case !hijackInside:
		return &flusher{w}
	case !flushInside:
		return &hijacker{w}
	}
	return &flushHijacker{flusher{w}}
}

func flushes(w http.ResponseWriter) bool {
	if _, ok := w.(http.Flusher); ok {
		return true
	}
	_, ok := w.(interface{ FlushError() error })
	return ok
}

func hijacks(w http.ResponseWriter) bool { _, ok := w.(http.Hijacker); return ok }

type flusher struct{ http.ResponseWriter }

func (f *flusher) Unwrap() http.ResponseWriter { return f.ResponseWriter }
func (f *flusher) Flush()                      { _ = f.FlushError() }
func (f *flusher) FlushError() error           { return http.NewResponseController(f.ResponseWriter).Flush() }

type hijacker struct{ http.ResponseWriter }

func (h *hijacker) Unwrap() http.ResponseWriter { return h.ResponseWriter }
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return http.NewResponseController(h.ResponseWriter).Hijack()
}

type flushHijacker struct{ flusher }

func (h *flushHijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return http.NewResponseController(h.ResponseWriter).Hijack()
}
