package phpweb

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sessionring/sessionring"
	"github.com/sessionring/sessionring/internal/phptest"
	"github.com/sessionring/sessionring/internal/redistest"
	"github.com/sessionring/sessionring/phpsession"
)

// TestCounter lets visits to PHP's page and to Go's alternate, in every form that sessions are kept in.
func TestCounter(t *testing.T) {
	phptest.Require(t)
	nodes := redistest.Nodes(t, 3)
	for _, handler := range phpsession.Handlers() {
		for _, locking := range []bool{false, true} {
			for _, lazy := range []string{"0", "1"} {
				t.Run(fmt.Sprintf("%s, locking=%t, lazy_write=%s", handler, locking, lazy), func(t *testing.T) {
					pool := nodes
					if locking {
						pool = nodes[:1] // see TestLeakedLock
					}
					for _, n := range nodes {
						if err := n.FlushAll(); err != nil {
							t.Fatal(err)
						}
					}
					s := open(t, pool, form{handler: handler, locking: locking, ini: map[string]string{"session.lazy_write": lazy}})
					alternate(t, s, "/counter.php", "/counter")
					alternate(t, s, "/counter", "/counter.php")
					s.noProblems()
					// Two sessions, and nothing beside them: no lock that stayed, no key that PHP would not have made.
					if keys := s.sessionKeys(); len(keys) != 2 {
						t.Errorf("on the nodes: %q; want the two sessions", keys)
					}
				})
			}
		}
	}
}

// alternate opens two counter pages in turn, and pages that change nothing in between.
func alternate(t *testing.T, s *site, first, second string) {
	t.Helper()
	b := s.browser()
	body, cookies, err := b.try(first)
	if err != nil || body != "1" || len(cookies) != 1 {
		t.Fatalf("the first visit, to %s: %q, %d cookies, %v\n%s", first, body, len(cookies), err, s.php.Log())
	}
	if c := cookies[0]; c.Name != "PHPSESSID" || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" || c.MaxAge != 0 {
		t.Errorf("%s sets a cookie of other attributes than the other half: %s", first, strings.Replace(c.String(), c.Value, "…", 1))
	}
	id := b.id()
	for n := 2; n <= 7; n++ {
		page := []string{first, second}[(n+1)%2]
		body, cookies, err := b.try(page)
		if err != nil || body != strconv.Itoa(n) {
			t.Fatalf("visit %d, to %s: %q, %v\n%s", n, page, body, err, s.php.Log())
		}
		if len(cookies) > 0 {
			t.Errorf("visit %d, to %s, sets a cookie again: %v", n, page, cookies[0].Name)
		}
		before := s.stored(id)
		b.want("/look.php", body)
		b.want("/look", body)
		if after := s.stored(id); after != before {
			t.Errorf("looking changed the session: %q became %q", before, after)
		}
	}
	ttl, err := s.home(id).Do("TTL", sessionring.DefaultPrefix+id)
	if left, _ := ttl.(int64); err != nil || left < 1400 || left > 1440 {
		t.Errorf("the session lives for %v s; want up to 1440, %v", ttl, err)
	}
}

// TestParallel visits both pages at once: with locking every visit counts.
func TestParallel(t *testing.T) {
	phptest.Require(t)
	const visits = 24
	s := open(t, redistest.Nodes(t, 1), form{handler: phpsession.PHPSerialize, locking: true, workers: 3})
	b := s.browser()
	b.want("/counter.php", "1")
	var mu sync.Mutex
	var seen []int
	var wg sync.WaitGroup
	for i := range visits {
		wg.Go(func() {
			body, _, err := b.try([]string{"/counter", "/counter.php"}[i%2])
			n, _ := strconv.Atoi(body)
			if err != nil || n == 0 {
				t.Errorf("%q, %v", body, err)
			}
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, n)
		})
	}
	wg.Wait()
	slices.Sort(seen)
	for i, n := range seen {
		if n != i+2 {
			t.Fatalf("the visits saw %v; want every number from 2 to %d once", seen, visits+1)
		}
	}
	s.noProblems()
	if s.locked(b.id()) {
		t.Error("a lock is left")
	}
}

// TestLeakedLock is phpredis's own: on two nodes or more it releases the lock at the node that the prefix of the
// key belongs to, not at the session's. Where these differ the lock stays until it expires. Both halves wait for
// that, and lose nothing.
func TestLeakedLock(t *testing.T) {
	phptest.Require(t)
	s := open(t, redistest.Nodes(t, 2), form{handler: phpsession.PHP, locking: true, ini: map[string]string{"redis.session.lock_expire": "1"}})
	for range 50 {
		b := s.browser()
		b.want("/counter.php", "1")
		id := b.id()
		if s.home(id) == s.home(sessionring.DefaultPrefix+id) {
			continue // released by luck
		}
		if !s.locked(id) {
			t.Skip("this phpredis releases the lock where it took it")
		}
		start := time.Now()
		b.want("/counter", "2")
		b.want("/counter.php", "3")
		b.want("/counter", "4")
		if s.locked(id) {
			t.Error("Go left a lock")
		}
		t.Logf("two visits waited for PHP's lock: %v", time.Since(start).Round(time.Millisecond))
		s.noProblems()
		return
	}
	t.Fatal("no session fell on the other node")
}

// TestLogin changes the id on either side; the other goes along.
func TestLogin(t *testing.T) {
	phptest.Require(t)
	s := open(t, redistest.Nodes(t, 3), form{handler: phpsession.Igbinary})
	for _, side := range []struct{ name, login, here, there string }{
		{"PHP", "/login.php user=ada", "/counter.php", "/counter"},
		{"Go", "/login user=ada", "/counter", "/counter.php"},
	} {
		t.Run(side.name, func(t *testing.T) {
			b := s.browser()
			b.want(side.there, "1")
			old := b.id()
			b.want(side.login, "welcome")
			if id := b.id(); id == old || id == "" {
				t.Fatal("the login kept the id")
			}
			b.want(side.there, "2")
			b.want(side.here, "3")
			b.want("/who.php", "ada")

			// The old id is worth nothing: whoever comes with it is nobody, in PHP too.
			thief := s.browser()
			thief.setID(old)
			thief.want("/who.php", "nobody")
			b.want("/counter.php", "4")
			b.want("/counter", "5")
		})
	}
	s.noProblems()
}

// TestLogout ends the session on either side; the other does not bring it back.
func TestLogout(t *testing.T) {
	phptest.Require(t)
	s := open(t, redistest.Nodes(t, 3), form{handler: phpsession.PHPBinary})
	for _, logout := range []string{"/logout.php ", "/logout "} {
		for _, page := range []string{"/counter.php", "/counter"} {
			b := s.browser()
			b.want("/counter.php", "1")
			b.want("/counter", "2")
			old := b.id()
			b.get(logout)
			b.setID(old) // a browser that kept its cookie
			b.want(page, "1")
			if b.id() == old {
				t.Errorf("after %s, %s took up the old id again", logout, page)
			}
		}
	}

	// “Log out everywhere” of Go's side ends what PHP works on.
	var devices []*browser
	for range 3 {
		b := s.browser()
		b.want("/login user=grace", "welcome")
		b.want("/who.php", "grace")
		devices = append(devices, b)
	}
	if n, err := s.manager.DestroyAll(t.Context(), "grace"); err != nil || n != 3 {
		t.Errorf("DestroyAll: %d, %v; want 3 sessions", n, err)
	}
	for _, b := range devices {
		b.want("/who.php", "nobody")
	}
	s.noProblems()
}

// TestEmpty: PHP stores a session without a value as an empty string. It is a session, and its id stays.
func TestEmpty(t *testing.T) {
	phptest.Require(t)
	s := open(t, redistest.Nodes(t, 1), form{handler: phpsession.PHPSerialize})
	b := s.browser()
	b.want("/look.php", "none")
	id := b.id()
	if id == "" {
		t.Fatal("PHP set no cookie")
	}
	b.want("/look", "none")
	b.want("/counter", "1")
	b.want("/counter.php", "2")
	if b.id() != id {
		t.Error("the id of PHP's empty session was not taken over")
	}
	if keys := s.sessionKeys(); len(keys) != 1 || !strings.HasSuffix(keys[0], id) {
		t.Errorf("on the node: %d keys; want the one session", len(keys))
	}
	s.noProblems()
}
