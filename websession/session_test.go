package websession

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/sessionring/sessionring/phpsession"
)

func TestMergeFlashes(t *testing.T) {
	a, b, c, d := Flash{"", "a"}, Flash{"", "b"}, Flash{"", "c"}, Flash{"", "d"}
	for _, codec := range []Codec{JSON(), Gob(), PHP(phpsession.PHP), PHP(phpsession.Igbinary)} {
		list := func(fs ...Flash) values {
			v := codec.empty()
			if len(fs) > 0 {
				if _, err := v.put(flashKey, fs); err != nil {
					t.Fatal(err)
				}
			}
			return v
		}
		for name, tc := range map[string]struct{ base, mine, theirs, want values }{
			"both added":        {list(a), list(a, b), list(a, c), list(a, c, b)},
			"mine took":         {list(a, b), list(), list(a, b, c), list(c)},
			"theirs took":       {list(a), list(a, b), list(), list(b)},
			"both took":         {list(a), list(), list(), list()},
			"took and added":    {list(a, a), list(d), list(a, a, c), list(c, d)},
			"one of two equals": {list(a, a), list(a), list(a, a), list(a)},
			"mine did nothing":  {list(a), list(a), list(b), list(b)},
		} {
			if err := mergeFlashes(tc.base, tc.mine, tc.theirs); err != nil {
				t.Fatal(err)
			}
			if got, want := flashes(tc.theirs), flashes(tc.want); fmt.Sprint(got) != fmt.Sprint(want) || tc.theirs.has(flashKey) != tc.want.has(flashKey) {
				t.Errorf("%s, %s: %v, want %v", codec, name, got, want)
			}
		}
	}
	v := JSON().empty()
	_, _ = v.put(flashKey, "not a list")
	if got := flashes(v); got != nil {
		t.Errorf("a list of something else: %v", got)
	}
}

func TestFlashesAndPop(t *testing.T) {
	st := newSite(t, 1, "", Options{}, func(m *Manager) http.Handler {
		mux := http.NewServeMux()
		mux.Handle("/add", m.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s := Get(r)
			for i := range maxFlashes + 3 {
				if err := s.AddFlash("info", fmt.Sprint(i)); err != nil {
					t.Error(err)
				}
			}
			_ = Put(s, "once", "only")
		})))
		mux.Handle("/readonly", m.ReadOnly(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, errFlash := Get(r).Flashes()
			_, _, errPop := Pop[string](Get(r), "once")
			fmt.Fprint(w, errors.Is(errFlash, ErrReadOnly), errors.Is(errPop, ErrReadOnly))
		})))
		mux.Handle("/take", m.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s := Get(r)
			list, err := s.Flashes()
			_, _, errType := Pop[int](s, "once") // does not fit, so it stays
			v, found, errPop := Pop[string](s, "once")
			first := ""
			if len(list) > 0 {
				first = list[0].Text
			}
			fmt.Fprintln(w, len(list), first, err, errors.Is(errType, ErrType), v, found, errPop, s.New())
		})))
		return mux
	})
	b := st.browser()
	b.get("/add")
	if got := b.get("/readonly"); got != "true true" {
		t.Errorf("in a read-only handler: %s", got)
	}
	if got := b.get("/take"); got != "50 3 <nil> true only true <nil> false\n" {
		t.Errorf("taken: %s", got)
	}
	if got := b.get("/take"); got != "0  <nil> false  false <nil> false\n" {
		t.Errorf("taken again: %s", got)
	}
}

// Who is logged in survives a merge, from whichever side it comes.
func TestUserIsMerged(t *testing.T) {
	for layout, params := range layouts {
		g := newGate()
		routes := map[string]http.HandlerFunc{"/slow": slowly(g, func(s *Session) error { return s.SetUser("ann") }),
			"/slowput": slowly(g, func(s *Session) error { return Put(s, "slow", "1") }),
			"/who":     func(w http.ResponseWriter, r *http.Request) { u, err := Get(r).User(); fmt.Fprint(w, u, " ", err) }}
		for k, v := range accountRoutes {
			routes[k] = v
		}
		st := newSite(t, 1, params, Options{}, wrapped(routes))
		b := st.browser()
		b.get("/put?key=a&value=1")
		tab := b.twin()
		g.around(func() { tab.get("/put?key=a&value=2") }, func() string { return b.get("/slow") })
		if got := b.get("/who") + b.get("/show?key=a"); got != "ann <nil>2" {
			t.Errorf("%s: %s", layout, got)
		}
		g.around(func() { tab.get("/put?key=a&value=3") }, func() string { return b.get("/slowput") })
		if got := b.get("/who") + b.get("/show?key=a") + b.get("/show?key=slow"); got != "ann <nil>31" {
			t.Errorf("%s: %s", layout, got)
		}
		if list, err := st.manager.SessionsOf(context.Background(), "ann"); err != nil || len(list) != 1 {
			t.Errorf("%s: %d sessions, %v", layout, len(list), err)
		}
	}
}

func TestEditPHPReadOnly(t *testing.T) {
	st := newSite(t, 1, "", Options{Codec: PHP("")}, func(m *Manager) http.Handler {
		mux := http.NewServeMux()
		mux.Handle("/put", m.Wrap(http.HandlerFunc(put)))
		mux.Handle("/", m.ReadOnly(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s := Get(r)
			look := s.EditPHP(func(tree *phpsession.Session) error { _, err := tree.Lookup("a"); return err })
			own := errors.New("of the edit")
			failed := s.EditPHP(func(tree *phpsession.Session) error { return own })
			change := s.EditPHP(func(tree *phpsession.Session) error { return tree.Set("a", 2) })
			a, _ := Value[string](s, "a")
			fmt.Fprintln(w, look, failed == own, errors.Is(change, ErrReadOnly), a)
		})))
		return mux
	})
	b := st.browser()
	b.get("/put?key=a&value=1")
	if got := b.get("/"); got != "<nil> true true 1\n" {
		t.Errorf("got %s", got)
	}
}

// What a PHP script, or anybody else, may have left under the package's own names.
func TestForeignMeta(t *testing.T) {
	for _, data := range []string{`{"_sessionring":7,"_sessionring_flash":{"a":1},"a":"1"}`, `{"_sessionring":{"user":5},"a":"1"}`,
		`{"_sessionring":{"moved":""},"a":"1"}`} {
		st := newSite(t, 1, "", Options{}, wrapped(map[string]http.HandlerFunc{"/show": show, "/put": put, "/flashes": func(w http.ResponseWriter, r *http.Request) {
			list, err := Get(r).Flashes()
			fmt.Fprint(w, len(list), err)
		}}))
		if err := st.client.Set(context.Background(), "leftbysomebody", []byte(data)); err != nil {
			t.Fatal(err)
		}
		b := st.browser()
		b.setCookie("session", "leftbysomebody")
		if got := b.get("/show?key=a") + b.get("/flashes") + b.get("/put?key=a&value=2") + b.get("/show?key=a"); got != "10 <nil>ok2" {
			t.Errorf("%s: %s", data, got)
		}
	}
	// A session that claims to have moved to what is no id.
	st := newSite(t, 1, "", Options{}, wrapped(map[string]http.HandlerFunc{"/show": show}))
	if err := st.client.Set(context.Background(), "leftbysomebody", []byte(`{"_sessionring":{"moved":"a b"}}`)); err != nil {
		t.Fatal(err)
	}
	b := st.browser()
	b.setCookie("session", "leftbysomebody")
	if resp, _, err := b.try("/show?key=a"); err != nil || resp.StatusCode != 500 || !errors.Is(st.events.last("load").Err, ErrBadData) {
		t.Errorf("%v %v", resp, err)
	}
}
