package browser

import (
	"fmt"
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

func openShop(t *testing.T, flags ...string) *site {
	t.Helper()
	findChromium(t)
	s := &site{t: t, nodes: redistest.Nodes(t, 3)}
	s.program = build(t, filepath.Join(root(t), "examples/shop"))
	s.url = s.serve(flags...)
	return s
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

// TestShop is an afternoon in the shop: two carts, a login, a node that dies, and the end of all sessions of a user.
func TestShop(t *testing.T) {
	s := openShop(t, "-grace", "1s")
	chromium := startChromium(t)
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
	one.picture("shop")
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
	one.picture("shop-cart")

	// My devices, with the node still dead.
	two.login(s, "ada", "lovelace")
	two.want("user", "ada")
	two.wantCart(s, 2, "matcha=1", "assam=1")
	one.to("to-devices")
	if n := eval[int](one, `document.querySelectorAll("#devices .device").length`); n != 2 {
		t.Fatalf("my devices lists %d browsers; want 2", n)
	}
	one.picture("shop-devices")
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

// TestShopTabs changes one cart from many tabs at once, over two processes of the shop.
func TestShopTabs(t *testing.T) {
	const tabs, adds = 4, 3
	for _, mode := range []string{"merge", "lock"} {
		t.Run(mode, func(t *testing.T) {
			s := openShop(t, "-parallel", mode, "-stock-check", "20ms")
			first := newBrowser(t, startChromium(t))
			first.open(s.url)
			first.to("add-teapot")
			total := fillCarts(t, s, first, []string{s.url, s.serve("-parallel", mode, "-stock-check", "20ms")}, tabs, adds)
			first.wantCart(s, total, fmt.Sprintf("teapot=%d", total))
		})
	}
}

// TestShopTabsNeedIt is the same with neither: if nothing were lost, TestShopTabs would prove nothing.
func TestShopTabsNeedIt(t *testing.T) {
	s := openShop(t, "-parallel", "last", "-stock-check", "100ms")
	first := newBrowser(t, startChromium(t))
	first.open(s.url)
	first.to("add-teapot")
	total := fillCarts(t, s, first, []string{s.url}, 4, 3)
	first.open(s.url + "cart")
	if n, _ := strconv.Atoi(first.text("cart-count")); n >= total {
		t.Errorf("the cart has all %d, though the last writer wins: the tabs did not meet", n)
	}
}

// fillCarts adds teapots in several tabs at once, the tabs spread over the servers, and returns how many there must
// be then.
func fillCarts(t *testing.T, s *site, first *tab, servers []string, tabs, adds int) int {
	t.Helper()
	all := make([]*tab, tabs)
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
	return 1 + tabs*adds
}
