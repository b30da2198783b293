package websession

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/sessionring/sessionring/internal/phptest"
	"github.com/sessionring/sessionring/internal/redistest"
	"github.com/sessionring/sessionring/phpsession"
)

// A counter page in PHP and one in Go behind one cookie. With locking on one node only: over several, phpredis
// leaves its locks behind, as it releases them on a node that it finds by the prefix.
func TestCounterSharedWithPHP(t *testing.T) {
	phptest.Require(t)
	one, two := redistest.Nodes(t, 1), redistest.Nodes(t, 2)
	for i, h := range append(phpsession.Handlers(), phpsession.Handlers()...) {
		locking, nodes, mode := "1", one, LockRequests
		if i >= len(phpsession.Handlers()) {
			locking, nodes, mode = "0", two, LockNever
		}
		t.Run(h.String()+" locking="+locking, func(t *testing.T) {
			opt := Options{Codec: PHP(h), Lock: mode, ID: IDFormat{32, 5}}
			st := siteOn(t, nodes, "distribution=phpredis", opt, wrapped(map[string]http.HandlerFunc{"/": counter, "/all": func(w http.ResponseWriter, r *http.Request) {
				s := Get(r)
				err := errors.Join(s.SetUser("ann"), s.AddFlash("info", "from Go"), Put(s, "list", []int{1, 2}))
				fmt.Fprint(w, err)
			}}))
			var entries []string
			for _, n := range nodes {
				entries = append(entries, n.SavePath())
			}
			php := phptest.Serve(t, phptest.App{
				INI: phptest.SessionINI(strings.Join(entries, ","), "session.serialize_handler", h.String(),
					"redis.session.locking_enabled", locking, "redis.session.lock_retries", "-1", "session.use_strict_mode", "1"),
				Workers: 4,
				Code: `session_start();
					if ($_SERVER['REQUEST_URI'] == '/dump') { echo json_encode($_SESSION); exit; }
					$_SESSION['visits'] = ($_SESSION['visits'] ?? 0) + 1;
					$_SESSION['price'] = 0.1;
					echo $_SESSION['visits'];`,
			})
			gob := st.browser()
			phpb := *gob // cookies do not tell ports apart, so one jar serves both
			phpb.base = php.URL
			for i := 1; i <= 6; i += 2 {
				first, second := gob, &phpb
				if h == phpsession.PHPBinary || h == phpsession.Igbinary { // either side may begin
					first, second = second, first
				}
				if got := first.get("/"); got != fmt.Sprint(i) {
					t.Fatalf("visit %d shows %s", i, got)
				}
				if got := second.get("/"); got != fmt.Sprint(i+1) {
					t.Fatalf("visit %d shows %s", i+1, got)
				}
			}
			var wg sync.WaitGroup
			for range 8 {
				if mode == LockNever {
					gob.get("/")
					phpb.get("/")
					continue
				}
				wg.Go(func() { gob.get("/") })
				wg.Go(func() { phpb.get("/") })
			}
			wg.Wait()
			if got := gob.get("/"); got != "23" {
				t.Errorf("after 22 visits: %s", got)
			}
			// What this package keeps for itself does not trouble PHP, and survives it.
			if got := gob.get("/all"); got != "<nil>" {
				t.Fatal(got)
			}
			phpb.get("/")
			dump := phpb.get("/dump")
			for _, want := range []string{`"visits":24`, `"price":0.1`, `"list":[1,2]`, `"user":"ann"`, `"from Go"`} {
				if !strings.Contains(dump, want) {
					t.Errorf("PHP sees %s, without %s", dump, want)
				}
			}
			if p := php.Problems(); len(p) > 0 {
				t.Errorf("PHP complains: %q", p)
			}
			if list, err := st.manager.SessionsOf(context.Background(), "ann"); err != nil || len(list) == 0 {
				t.Errorf("%d sessions of ann, %v", len(list), err)
			}
			if _, err := st.manager.DestroyAll(context.Background(), "ann"); err != nil {
				t.Fatal(err)
			}
			if got := phpb.get("/"); got != "1" {
				t.Errorf("PHP after logging out everywhere: %s", got)
			}
		})
	}
}

// Cases floats-stay-floats, pipe-inside-a-value, private-properties-with-nul in a session that Go changes: what
// it does not touch keeps its bytes.
func TestUntouchedPHPValuesKeepTheirBytes(t *testing.T) {
	parts := []string{
		`p|d:750;`, `r|d:1.0E+25;`, `note|s:7:"a|b;c}d";`, `last|s:17:"user|s:5:"admin";";`, "bin|s:3:\"\x00\xff|\";",
		"u|O:4:\"User\":3:{s:4:\"name\";s:4:\"Zo\xc3\xab\";s:7:\"\x00*\x00role\";s:5:\"admin\";s:8:\"\x00User\x00pw\";s:2:\"\x00x\";}",
		`e|E:11:"Suit:Hearts";`, `x|C:3:"Foo":5:{a|b;c}`,
		`ref|a:2:{i:0;i:1;i:1;s:1:"z";}`,
	}
	before := strings.Join(parts, "") + `n|i:1;deep|a:2:{s:4:"cart";a:1:{i:7;a:2:{s:3:"qty";i:1;s:4:"name";s:4:"book";}}s:5:"price";d:0.1;}`
	want := strings.Join(parts, "") + `n|i:2;deep|a:2:{s:4:"cart";a:1:{i:7;a:2:{s:3:"qty";i:5;s:4:"name";s:4:"book";}}s:5:"price";d:0.1;}`
	st := newSite(t, 1, "distribution=phpredis", Options{Codec: PHP("")}, wrapped(map[string]http.HandlerFunc{
		"/": func(w http.ResponseWriter, r *http.Request) {
			s := Get(r)
			_ = Put(s, "n", 2)
			err := s.EditPHP(func(tree *phpsession.Session) error { return tree.Put(5, "deep", "cart", 7, "qty") })
			fmt.Fprint(w, err)
		},
		"/look": func(w http.ResponseWriter, r *http.Request) {
			name := ""
			err := Get(r).EditPHP(func(tree *phpsession.Session) error {
				v, err := tree.Lookup("u", "name")
				name = fmt.Sprint(v)
				return err
			})
			fmt.Fprint(w, name, err)
		},
		"/type": func(w http.ResponseWriter, r *http.Request) {
			v, err := Value[any](Get(r), "p")
			fmt.Fprintf(w, "%T %v %v", v, v, err)
		},
	}))
	ctx := context.Background()
	if err := st.client.Set(ctx, "phpmadethisone", []byte(before)); err != nil {
		t.Fatal(err)
	}
	b := st.browser()
	b.setCookie("PHPSESSID", "phpmadethisone")
	if got := b.get("/look"); got != "Zoë<nil>" {
		t.Errorf("look: %s", got)
	}
	if got := b.get("/type"); got != "float64 750 <nil>" {
		t.Errorf("p is %s", got)
	}
	if n := st.events.count("save", ""); n != 0 {
		t.Error("looking wrote")
	}
	if got := b.get("/"); got != "<nil>" {
		t.Fatal(got)
	}
	data, err := st.client.Get(ctx, "phpmadethisone")
	if err != nil || string(data) != want {
		t.Errorf("stored\n%q\nwant\n%q %v", data, want, err)
	}
}

// PHP stores empty sessions; their ids are its own.
func TestEmptyPHPSession(t *testing.T) {
	st := newSite(t, 1, "distribution=phpredis", Options{Codec: PHP("")}, wrapped(map[string]http.HandlerFunc{"/": counter, "/clear": func(w http.ResponseWriter, r *http.Request) {
		if err := Get(r).Clear(); err != nil {
			t.Error(err)
		}
	}}))
	ctx := context.Background()
	if err := st.client.Set(ctx, "emptysessionofphp", nil); err != nil {
		t.Fatal(err)
	}
	b := st.browser()
	b.setCookie("PHPSESSID", "emptysessionofphp")
	if got := b.get("/"); got != "1" || b.cookie("PHPSESSID") != "emptysessionofphp" {
		t.Errorf("visit %s, id kept: %v", got, b.cookie("PHPSESSID") == "emptysessionofphp")
	}
	b.get("/clear")
	if data, err := st.client.Get(ctx, "emptysessionofphp"); err != nil || len(data) != 0 {
		t.Errorf("a cleared session is stored as %q, %v", data, err)
	}
}

// Case trailing-garbage: what PHP accepts is accepted, and nothing is shortened without a word.
func TestTrailingGarbage(t *testing.T) {
	logged := &syncBuffer{}
	st := newSite(t, 1, "distribution=phpredis", Options{Codec: PHP(phpsession.PHPSerialize), Logger: slog.New(slog.NewTextHandler(logged, nil))},
		wrapped(map[string]http.HandlerFunc{"/": counter, "/look": func(w http.ResponseWriter, r *http.Request) {
			n, err := Value[int](Get(r), "visits")
			fmt.Fprint(w, n, err)
		}}))
	ctx := context.Background()
	const id, data = "withtrailinggarbage", `a:1:{s:6:"visits";i:1;}junk`
	if err := st.client.Set(ctx, id, []byte(data)); err != nil {
		t.Fatal(err)
	}
	b := st.browser()
	b.setCookie("PHPSESSID", id)
	if got := b.get("/look"); got != "1 <nil>" {
		t.Errorf("read %s", got)
	}
	if got, _ := st.client.Get(ctx, id); string(got) != data {
		t.Errorf("a read changed the bytes to %s", got)
	}
	if got := b.get("/"); got != "2" || !strings.Contains(logged.String(), "offset=23") || strings.Contains(logged.String(), id) {
		t.Errorf("visit %s; log: %s", got, logged)
	}
}

// Case read-with-the-wrong-serializer.
func TestWrongSerializerIsNamed(t *testing.T) {
	st := newSite(t, 1, "distribution=phpredis", Options{Codec: PHP(phpsession.PHP)}, wrapped(map[string]http.HandlerFunc{"/": counter}))
	ctx := context.Background()
	for looks, data := range map[phpsession.Handler]string{
		phpsession.Igbinary:     "\x00\x00\x00\x02\x14\x01\x11\x01a\x06\x07",
		phpsession.PHPSerialize: `a:1:{s:1:"a";i:7;}`,
	} {
		id := "written-by-another-" + string(looks[:3])
		if err := st.client.Set(ctx, id, []byte(data)); err != nil {
			t.Fatal(err)
		}
		b := st.browser()
		b.setCookie("PHPSESSID", id)
		if resp, _, err := b.try("/"); err != nil || resp.StatusCode != 500 || resp.Header.Get("Set-Cookie") != "" {
			t.Errorf("%s: %v %v", looks, resp, err)
		}
		var wrong *phpsession.WrongHandlerError
		if err := st.events.last("load").Err; !errors.As(err, &wrong) || wrong.LooksLike != looks {
			t.Errorf("%s: %v", looks, err)
		}
		if got, _ := st.client.Get(ctx, id); string(got) != data {
			t.Errorf("%s: the bytes changed", looks)
		}
	}
}
