package phpweb

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sessionring/sessionring/internal/phptest"
	"github.com/sessionring/sessionring/internal/redistest"
	"github.com/sessionring/sessionring/phpsession"
	"github.com/sessionring/sessionring/websession"
)

const patience = 30 * time.Second

// TestWithoutLocking shows what two requests at once do to each other where neither locks: Go keeps what PHP did
// meanwhile, PHP does not keep what Go did.
func TestWithoutLocking(t *testing.T) {
	phptest.Require(t)
	s := open(t, redistest.Nodes(t, 2), form{handler: phpsession.PHP, workers: 2})

	t.Run("Go is slow, PHP counts", func(t *testing.T) {
		b := s.browser()
		b.want("/counter.php", "1")
		end := slowGo(t, b)
		b.want("/counter.php", "2")
		end()
		if got := s.stored(b.id()); got != `visits|i:2;slow|s:2:"go";` {
			t.Errorf("stored is %q; want PHP's visit and Go's value", got)
		}
	})
	t.Run("Go is slow, PHP logs in", func(t *testing.T) {
		b := s.browser()
		b.want("/counter.php", "1")
		old := b.id()
		end := slowGo(t, b)
		b.want("/login.php user=ada", "welcome") // with session_regenerate_id(true)
		end()
		if s.exists(old) {
			t.Error("Go brought the session back that PHP had ended")
		}
		b.want("/counter.php", "2")
		b.want("/who.php", "ada")
	})
	t.Run("Go is slow, PHP logs out", func(t *testing.T) {
		b := s.browser()
		b.want("/counter.php", "1")
		old := b.id()
		end := slowGo(t, b)
		b.get("/logout.php ")
		end()
		if s.exists(old) {
			t.Error("Go brought the session back that PHP had ended")
		}
	})
	t.Run("PHP is slow, Go counts", func(t *testing.T) {
		b := s.browser()
		b.want("/counter", "1")
		end := slowPHP(t, b)
		b.want("/counter", "2")
		end()
		if got := s.stored(b.id()); got != `visits|i:1;slow|s:3:"php";` {
			t.Errorf("stored is %q; the documentation says that PHP writes what it had read", got)
		}
	})
	t.Run("PHP is slow, Go logs out", func(t *testing.T) {
		b := s.browser()
		b.want("/counter", "1")
		old := b.id()
		end := slowPHP(t, b)
		b.get("/logout ")
		end()
		if !s.exists(old) {
			t.Error("the session stays ended; the documentation says that PHP brings it back")
		}
	})
	s.noProblems()
}

// TestWithLocking: the same with locks, and nothing is lost.
func TestWithLocking(t *testing.T) {
	phptest.Require(t)
	s := open(t, redistest.Nodes(t, 1), form{handler: phpsession.PHP, workers: 2, locking: true})
	later := func(b *browser, page, want string) <-chan error {
		done := make(chan error, 1)
		go func() {
			body, _, err := b.try(page)
			if err == nil && body != want {
				err = errors.New(page + " says " + body)
			}
			done <- err
		}()
		return done
	}
	for _, slow := range []struct {
		name  string
		begin func(*testing.T, *browser) func()
		value string
		other string
	}{{"PHP", slowPHP, `slow|s:3:"php";`, "/counter"}, {"Go", slowGo, `slow|s:2:"go";`, "/counter.php"}} {
		b := s.browser()
		b.want("/counter", "1")
		end := slow.begin(t, b)
		done := later(b, slow.other, "2") // waits for the lock
		end()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if got := s.stored(b.id()); got != `visits|i:2;`+slow.value {
			t.Errorf("%s was slow: stored is %q", slow.name, got)
		}
	}
	b := s.browser()
	b.want("/counter", "1")
	old := b.id()
	end := slowPHP(t, b)
	done := later(b, "/logout ", "")
	end()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if s.exists(old) {
		t.Error("the session outlived Go's logout")
	}
	s.noProblems()
}

// slowGo starts a request to Go that has read the session when this returns, and writes it at end.
func slowGo(t *testing.T, b *browser) (end func()) {
	t.Helper()
	loaded, goOn := make(chan struct{}), make(chan struct{})
	b.slow = func(w http.ResponseWriter, r *http.Request) {
		session := websession.Get(r)
		_, err := websession.Value[int](session, "visits")
		close(loaded)
		<-goOn
		if err = errors.Join(err, websession.Put(session, "slow", "go")); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	}
	done := make(chan error, 1)
	go func() { _, _, err := b.try("/slow"); done <- err }()
	select {
	case <-loaded:
	case err := <-done:
		t.Fatalf("Go did not begin: %v", err)
	case <-time.After(patience):
		t.Fatal("Go did not begin")
	}
	return func() {
		t.Helper()
		close(goOn)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

// slowPHP is slowGo for PHP.
func slowPHP(t *testing.T, b *browser) (end func()) {
	t.Helper()
	told := filepath.Join(t.TempDir(), "told")
	done := make(chan error, 1)
	go func() { _, _, err := b.try("/slow.php?told=" + told); done <- err }()
	for until := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(told + ".read"); err == nil {
			break
		}
		if time.Now().After(until) {
			t.Fatal("PHP did not begin")
		}
	}
	return func() {
		t.Helper()
		if err := os.WriteFile(told+".go", nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

// TestNodeAway: where PHP keeps one copy, a dead node takes its sessions away until it is back. Go makes no new
// session meanwhile, so it logs nobody out; PHP in strict mode does.
func TestNodeAway(t *testing.T) {
	phptest.Require(t)
	s := open(t, redistest.Nodes(t, 2, redistest.Options{AppendOnly: true}), form{handler: phpsession.PHP})
	b, other := s.browser(), s.browser()
	b.want("/counter.php", "1")
	b.want("/counter", "2")
	id := b.id()
	home := s.home(id)
	for other.get("/counter"); s.home(other.id()) == home; other.get("/counter") {
		other.setID("") // until it lives on the other node
	}
	if err := home.Kill(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		_, cookies, err := b.try("/counter")
		if err == nil || !strings.Contains(err.Error(), "status 503") || len(cookies) > 0 {
			t.Errorf("Go, with the session's node dead: %v, cookies %v; want 503 and no cookie", err, cookies)
		}
	}
	if _, _, err := b.try("/counter.php"); err != nil || b.id() == id {
		t.Errorf("PHP, with the session's node dead: %v, and the cookie stays; the documentation says that it gives out a new one", err)
	}
	other.want("/counter.php", "2")
	other.want("/counter", "3")
	if err := home.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.setID(id)
	for until := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		body, _, err := b.try("/look")
		if err == nil && body == "2" {
			break
		}
		if err == nil || time.Now().After(until) {
			t.Fatalf("the node is back, and the session is %q, %v", body, err)
		}
	}
	b.want("/counter.php", "3")
	b.want("/counter", "4")
}
