package browser

import (
	"context"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sessionring/sessionring"
	"github.com/sessionring/sessionring/internal/redistest"
)

// site is the example shop over real nodes.
type site struct {
	t       *testing.T
	nodes   []*redistest.Server
	program string
	url     string
}

// TestShop opens the example shop in several ways.
func TestShop(t *testing.T) {
	t.Parallel()
	findChromium(t)
	redistest.FindOrSkip(t)
	program := build(t, filepath.Join(root(t), "examples/shop"))
	chromium := startChromium(t)
	open := func(t *testing.T, flags ...string) *site {
		s := &site{t: t, nodes: redistest.Nodes(t, 3), program: program}
		s.url = s.serve(flags...)
		return s
	}
	t.Run("afternoon", func(t *testing.T) { afternoon(t, open(t, "-grace", "1s"), chromium) })

	// Many tabs change one cart at once, in two processes of the shop.
	for _, mode := range []string{"merge", "lock"} {
		t.Run("tabs, "+mode, func(t *testing.T) {
			flags := []string{"-parallel", mode, "-stock-check", "20ms"}
			s := open(t, flags...)
			if got, want := fillCart(t, newBrowser(t, chromium), s.url, s.serve(flags...)); got != want {
				t.Errorf("the cart has %d teapots of %d", got, want)
			}
		})
	}
	// If nothing were lost with neither, the above would prove nothing.
	t.Run("tabs, last writer wins", func(t *testing.T) {
		s := open(t, "-parallel", "last", "-stock-check", "100ms")
		if got, want := fillCart(t, newBrowser(t, chromium), s.url, s.url); got >= want {
			t.Errorf("the cart has all %d teapots: the tabs did not meet", want)
		}
	})
}

// serve starts another process of the shop over the same nodes, and returns its address.
func (s *site) serve(flags ...string) string {
	s.t.Helper()
	return start(s.t, s.program, append([]string{"-save-path", redistest.SavePath(s.nodes), "-addr", "127.0.0.1:0"}, flags...)...)
}

const shopCookie = "session"

// owner returns the node that the browser's session lives on first.
func (s *site) owner(b *tab) *redistest.Server {
	s.t.Helper()
	path, err := sessionring.ParseSavePath(redistest.SavePath(s.nodes))
	if err != nil {
		s.t.Fatal(err)
	}
	ring, err := sessionring.NewRing(path)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.nodes[ring.Owner(b.cookie(shopCookie).Value)]
}

func (b *tab) login(s *site, name, password string) {
	b.t.Helper()
	b.open(s.url + "login")
	b.fill("name", name)
	b.fill("password", password)
	b.follow("login")
}

// wantCart looks at the numbers on the cart's page.
func (b *tab) wantCart(s *site, total int, products ...string) {
	b.t.Helper()
	b.open(s.url + "cart")
	b.want("cart-count", strconv.Itoa(total))
	for _, p := range products {
		id, n, _ := strings.Cut(p, "=")
		b.want("count-"+id, n)
	}
}

// afternoon has two carts, a login, a node that dies, and the end of all sessions of a user.
func afternoon(t *testing.T, s *site, chromium context.Context) {
	one, two, thief := newBrowser(t, chromium), newBrowser(t, chromium), newBrowser(t, chromium)

	// Who only looks around has no session.
	one.open(s.url)
	one.want("cart-count", "0")
	if one.has("session") {
		t.Fatal("a visit without session data has a session")
	}

	// Two browsers, two carts.
	one.to("add-teapot")
	one.to("add-cup")
	one.to("add-cup")
	one.picture("shop", 480)
	two.open(s.url)
	two.to("add-matcha")
	one.wantCart(s, 3, "teapot=1", "cup=2")
	two.wantCart(s, 1, "matcha=1")

	// The login brings a new id; the cart comes along.
	before := one.cookie(shopCookie)
	if !before.HTTPOnly || before.SameSite != "Lax" || !before.Session {
		t.Errorf("the cookie is %+v; want HttpOnly, SameSite=Lax, for the browser's session", before)
	}
	one.login(s, "ada", "wrong")
	one.want("wrong", "Name or password is wrong.")
	if id := one.cookie(shopCookie).Value; id != before.Value {
		t.Error("a login that failed changed the id")
	}
	one.login(s, "ada", "lovelace")
	one.want("user", "ada")
	if id := one.cookie(shopCookie).Value; id == before.Value {
		t.Error("the login kept the id")
	}
	one.wantCart(s, 3, "teapot=1", "cup=2")

	// Whoever knew the old id has nothing of it once the grace is over.
	thief.plant(s.url, shopCookie, before.Value)
	deadline := time.Now().Add(stepFor)
	for thief.open(s.url); thief.has("user"); thief.open(s.url) {
		if time.Now().After(deadline) {
			t.Fatal("the id from before the login still works")
		}
		time.Sleep(100 * time.Millisecond)
	}
	thief.want("cart-count", "0")

	// A node dies under the shop; nobody notices. First the one that holds ada's session, then the second browser's
	// too, if it is another: one stays.
	if err := s.owner(one).Kill(); err != nil {
		t.Fatal(err)
	}
	one.to("to-cart")
	one.want("cart-count", "3")
	one.to("remove-cup")
	one.want("count-cup", "1")
	two.open(s.url)
	two.to("add-assam")
	two.wantCart(s, 2, "matcha=1", "assam=1")
	one.wantCart(s, 2, "teapot=1", "cup=1")
	one.want("user", "ada")
	one.picture("shop-cart", 440)

	// My devices, with the node still dead.
	two.login(s, "ada", "lovelace")
	two.want("user", "ada")
	two.wantCart(s, 2, "matcha=1", "assam=1")
	one.to("to-devices")
	if n := eval[int](one, `document.querySelectorAll("#devices .device").length`); n != 2 {
		t.Fatalf("my devices lists %d browsers; want 2", n)
	}
	one.picture("shop-devices", 540)
	eval[bool](one, `document.querySelector("#devices .end").id = "end", true`)
	one.to("end")
	two.open(s.url)
	if two.has("user") || two.text("cart-count") != "0" {
		t.Error("a device that was ended is still logged in")
	}
	one.open(s.url)
	one.want("user", "ada")

	// Log out everywhere.
	two.login(s, "ada", "lovelace")
	two.want("user", "ada")
	three := newBrowser(t, chromium)
	three.login(s, "grace", "hopper")
	two.to("to-devices")
	two.to("logout-everywhere")
	for i, b := range []*tab{one, two} {
		b.open(s.url)
		if b.has("user") {
			t.Errorf("browser %d is still logged in after “log out everywhere”", i+1)
		}
	}
	three.open(s.url)
	three.want("user", "grace")
	three.to("logout")
	if three.has("user") {
		t.Error("grace is still logged in after logging out")
	}
}

// fillCart adds teapots in several tabs at once, the tabs spread over the servers, and returns how many are in the
// cart then and how many there should be.
func fillCart(t *testing.T, first *tab, servers ...string) (got, want int) {
	t.Helper()
	const tabs, adds = 4, 3
	first.open(servers[0])
	first.to("add-teapot")
	var all [tabs]*tab
	for i := range all {
		all[i] = first.newTab()
		all[i].open(servers[i%len(servers)])
	}
	var wg sync.WaitGroup
	for _, b := range all {
		wg.Go(func() {
			for range adds {
				if status, err := b.tryFollow("add-teapot"); err != nil || status != 200 {
					t.Errorf("adding: status %d, %v", status, err)
				}
			}
		})
	}
	wg.Wait()
	first.open(servers[0] + "cart")
	got, err := strconv.Atoi(first.text("count-teapot"))
	if err != nil {
		t.Fatal(err)
	}
	return got, 1 + tabs*adds
}
