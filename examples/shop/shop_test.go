package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sessionring/sessionring/internal/redistest"
)

// openShop runs the shop as main does, and returns its address.
func openShop(t *testing.T, nodes []*redistest.Server, flags ...string) string {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	out, stdout := io.Pipe()
	done := make(chan error, 1)
	args := append([]string{"-addr", "127.0.0.1:0", "-save-path", redistest.SavePath(nodes)}, flags...)
	go func() {
		err := run(ctx, args, stdout, io.Discard)
		stdout.CloseWithError(err)
		done <- err
	}()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// browser keeps its cookies.
func browser(t *testing.T) *http.Client {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Jar: jar, Timeout: time.Minute}
}

// visit sends a form, or opens a page where there is none, and returns the page that this led to.
func visit(t *testing.T, b *http.Client, address string, form url.Values) (status int, body string) {
	t.Helper()
	var res *http.Response
	var err error
	if form == nil {
		res, err = b.Get(address)
	} else {
		res, err = b.PostForm(address, form)
	}
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Error(err)
	}
	return res.StatusCode, string(text)
}

var count = regexp.MustCompile(`id="cart-count"[^>]*>(\d+)<`)

func cartCount(t *testing.T, b *http.Client, address string) string {
	t.Helper()
	_, body := visit(t, b, address, nil)
	m := count.FindStringSubmatch(body)
	if m == nil {
		t.Fatalf("no cart on the page: %s", body)
	}
	return m[1]
}

// TestShop walks through the shop without a browser; test/browser does it with one.
func TestShop(t *testing.T) {
	address := openShop(t, redistest.Nodes(t, 3))
	b, other := browser(t), browser(t)
	for _, product := range []string{"teapot", "cup", "cup"} {
		if status, body := visit(t, b, address+"cart/add", url.Values{"product": {product}}); status != 200 {
			t.Fatalf("add: %d %s", status, body)
		}
	}
	if n, m := cartCount(t, b, address), cartCount(t, other, address); n != "3" || m != "0" {
		t.Errorf("the carts hold %s and %s; want 3 and 0", n, m)
	}
	if status, _ := visit(t, b, address+"cart/add", url.Values{"product": {"yacht"}}); status != http.StatusNotFound {
		t.Errorf("a product that there is not: %d", status)
	}
	if status, body := visit(t, b, address+"login", url.Values{"name": {"ada"}, "password": {""}}); status != http.StatusUnauthorized || strings.Contains(body, `id="user"`) {
		t.Errorf("a wrong password: %d %s", status, body)
	}
	if _, body := visit(t, b, address+"login", url.Values{"name": {"ada"}, "password": {"lovelace"}}); !strings.Contains(body, "Welcome, ada.") {
		t.Errorf("after the login: %s", body)
	}
	if n := cartCount(t, b, address); n != "3" {
		t.Errorf("after the login the cart holds %s; want 3", n)
	}
	visit(t, b, address+"logout-everywhere", url.Values{})
	if _, body := visit(t, b, address+"devices", nil); !strings.Contains(body, `id="login"`) {
		t.Errorf("still logged in: %s", body)
	}
}

// TestCartInParallel adds to one cart in many requests at once.
func TestCartInParallel(t *testing.T) {
	for _, mode := range []string{"merge", "lock"} {
		t.Run(mode, func(t *testing.T) {
			address := openShop(t, redistest.Nodes(t, 3), "-parallel", mode, "-stock-check", "5ms")
			b := browser(t)
			visit(t, b, address+"cart/add", url.Values{"product": {"cup"}})
			var wg sync.WaitGroup
			for range 9 {
				wg.Go(func() {
					if status, body := visit(t, b, address+"cart/add", url.Values{"product": {"cup"}}); status != 200 {
						t.Errorf("add: %d %s", status, body)
					}
				})
			}
			wg.Wait()
			if n := cartCount(t, b, address); n != "10" {
				t.Errorf("the cart holds %s of 10", n)
			}
		})
	}
}

// TestNodeDies kills each node in turn, whatever of the user's sessions and of the list of them it holds: every page
// still works, and "log out everywhere" still reaches everywhere.
func TestNodeDies(t *testing.T) {
	for i := range 3 {
		t.Run(fmt.Sprint("node ", i), func(t *testing.T) {
			nodes := redistest.Nodes(t, 3)
			address := openShop(t, nodes)
			works := func(b *http.Client, path string, form url.Values) string {
				t.Helper()
				status, body := visit(t, b, address+path, form)
				if status != http.StatusOK {
					t.Errorf("%s: %d %s", path, status, body)
				}
				return body
			}
			ada := url.Values{"name": {"ada"}, "password": {"lovelace"}}
			before, after := browser(t), browser(t)
			works(before, "cart/add", url.Values{"product": {"cup"}})
			works(before, "login", ada)
			if err := nodes[i].Kill(); err != nil {
				t.Fatal(err)
			}
			works(after, "login", ada)
			if body := works(before, "devices", nil); strings.Count(body, `class="device"`) != 2 {
				t.Errorf("my devices: %s", body)
			}
			if n := cartCount(t, before, address); n != "1" {
				t.Errorf("the cart holds %s; want 1", n)
			}
			works(before, "logout-everywhere", url.Values{})
			for _, b := range []*http.Client{before, after} {
				if body := works(b, "", nil); strings.Contains(body, `id="user"`) {
					t.Error("still logged in after “log out everywhere”")
				}
			}
		})
	}
}
