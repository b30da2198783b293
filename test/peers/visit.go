package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

const (
	size     = 1024 // bytes of a session
	digits   = 20   // of them, the count of saves
	lifetime = 1440 * time.Second
)

var filler = strings.Repeat("a session's data", size/16)

// A visit is what one request has to find, and, when it changes the session, to leave one higher.
type visit struct {
	want uint64
	err  error // what the page of a site met
}

// check says whether a session is what the last save left. It allocates nothing unless it is not.
func check[T string | []byte](v *visit, got T) error {
	n, err := saves(got)
	if err == nil && n != v.want {
		err = fmt.Errorf("session was saved %d times and holds the count %d", v.want, n)
	}
	return err
}

// saves is the count that a session of ours holds.
func saves[T string | []byte](got T) (uint64, error) {
	if len(got) != size {
		return 0, fmt.Errorf("session of %d bytes instead of %d", len(got), size)
	}
	n := uint64(0)
	for i := range digits {
		n = n*10 + uint64(got[i]-'0')
	}
	for i := digits; i < size; i++ {
		if got[i] != filler[i] {
			return 0, fmt.Errorf("byte %d of the session is another", i)
		}
	}
	return n, nil
}

func (v *visit) head() (h [digits]byte) {
	for n, i := v.want+1, digits-1; i >= 0; i-- {
		h[i] = byte('0' + n%10)
		n /= 10
	}
	return h
}

// bytes and text are the session after this visit. Each is a new one, as an application's would be: one allocation.
func (v *visit) bytes() []byte {
	b := make([]byte, size)
	h := v.head()
	copy(b[copy(b, h[:]):], filler[digits:])
	return b
}

func (v *visit) text() string {
	var b strings.Builder
	b.Grow(size)
	h := v.head()
	b.Write(h[:])
	b.WriteString(filler[digits:])
	return b.String()
}

// operation is what a request does.
type operation int

const (
	start operation = iota // make the session; not measured
	cycle                  // load, change, save
	read                   // load and prolong
)

func (o operation) String() string { return [...]string{"start", "cycle", "read"}[o] }

// A worker makes the requests of one goroutine. The token is what the client holds: an id, or a cookie; start returns
// it, given an id that a store may use.
type worker interface {
	start(ctx context.Context, id string, v *visit) (token string, err error)
	cycle(ctx context.Context, token string, v *visit) error
	read(ctx context.Context, token string, v *visit) error
}
