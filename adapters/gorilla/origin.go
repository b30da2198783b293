package gorillastore

import (
	"runtime"
	"sync"
	"weak"

	"github.com/gorilla/sessions"

	"github.com/sessionring/sessionring"
)

// origin is where a session of a request came from.
type origin struct {
	loaded  bool
	version sessionring.Version
	err     error // it could not be loaded, and must not be saved
}

// origins remember that beside the session: gorilla's has no room for it, Values are the application's, and the
// request changes its context on the way. They are forgotten with the session.
type origins struct {
	mu sync.Mutex
	m  map[weak.Pointer[sessions.Session]]origin
}

func (o *origins) get(s *sessions.Session) origin {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.m[weak.Make(s)]
}

func (o *origins) set(s *sessions.Session, from origin) {
	p := weak.Make(s)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.m == nil {
		o.m = map[weak.Pointer[sessions.Session]]origin{}
	}
	if _, ok := o.m[p]; !ok {
		runtime.AddCleanup(s, o.forget, p)
	}
	o.m[p] = from
}

func (o *origins) forget(p weak.Pointer[sessions.Session]) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.m, p)
}
