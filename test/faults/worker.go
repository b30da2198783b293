package faults

import (
	"context"
	"math/rand/v2"
	"time"
)

// Start lets the workers serve requests: most load a session and save it, as web applications do.
func (a *localApp) Start(l Load) error {
	a.halt()
	ctx, cancel := context.WithCancel(context.Background())
	a.cancel = cancel
	for i := range l.Workers {
		rnd := rand.New(rand.NewPCG(l.Seed, uint64(a.conf.Index)<<16|uint64(i)))
		a.wg.Go(func() { a.serve(ctx, l, rnd) })
	}
	return nil
}

func (a *localApp) serve(ctx context.Context, l Load, rnd *rand.Rand) {
	var ops []Op
	defer func() {
		a.mu.Lock()
		a.ops = append(a.ops, ops...)
		a.mu.Unlock()
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		session, kinds := l.request(rnd)
		for _, k := range kinds {
			ops = append(ops, a.do(l.Space, session, k))
		}
		timer.Reset(time.Duration(rnd.ExpFloat64() * float64(l.Pause)))
	}
}

var (
	loadAndSave   = []Kind{Get, Set}
	loadOnly      = []Kind{Get}
	saveOnly      = []Kind{Set}
	loadAndTouch  = []Kind{Get, Touch}
	logOut        = []Kind{Get, Delete, Get}
	checkedSaving = []Kind{Set, Get}
)

// request picks what the next request does, and to which session.
func (l Load) request(rnd *rand.Rand) (session int64, kinds []Kind) {
	x := rnd.IntN(100)
	if rnd.IntN(5) > 0 {
		session = int64(rnd.IntN(l.Sessions))
		switch {
		case x < 50:
			return session, loadAndSave
		case x < 60:
			return session, checkedSaving
		case x < 70:
			return session, saveOnly
		case x < 80:
			return session, loadAndTouch
		}
		return session, loadOnly
	}
	session = max(l.newestShort(now())-rnd.Int64N(shortWindow), shortBase)
	switch {
	case x < 10:
		return session, logOut
	case x < 50:
		return session, loadAndSave
	case x < 70:
		return session, saveOnly
	case x < 80:
		return session, loadAndTouch
	}
	return session, loadOnly
}
