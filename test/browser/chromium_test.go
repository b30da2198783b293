package browser

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

const (
	stepFor = 30 * time.Second // one click and the page it leads to, on a slow machine
	width   = 1080             // of the windows, and so of the screenshots
	height  = 720
)

// findChromium returns the browser, $CHROMIUM or one on the PATH. A test without one is skipped, unless
// SESSIONRING_REQUIRE is 1.
func findChromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{os.Getenv("CHROMIUM"), "chromium", "chromium-browser", "google-chrome", "chrome"} {
		if name == "" {
			continue
		}
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	const reason = "no chromium found on the PATH or in $CHROMIUM"
	if os.Getenv("SESSIONRING_REQUIRE") == "1" {
		t.Fatal(reason)
	}
	t.Skip(reason)
	return ""
}

// startChromium starts a browser that ends with the test, and asks nobody but the loopback address.
func startChromium(t *testing.T) context.Context {
	t.Helper()
	path := findChromium(t)
	dir, err := os.MkdirTemp("", "sessionring-chromium-")
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(path), chromedp.UserDataDir(dir), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.WindowSize(width, height), chromedp.CombinedOutput(&log),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-domain-reliability", true), chromedp.Flag("no-pings", true),
		chromedp.Flag("hide-scrollbars", true), chromedp.Flag("mute-audio", true),
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"),
	)
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(func() {
		closing, done := context.WithTimeout(ctx, 15*time.Second)
		_ = chromedp.Cancel(closing) // stop kills what does not close
		done()
		cancel()
		stop()
		removeProfile(t, dir)
	})
	// A deadline on this first call would end the browser with it.
	slow := time.AfterFunc(2*stepFor, cancel)
	defer slow.Stop()
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil {
		cancel()
		stop()
		t.Fatalf("cannot start %s: %v\n%s", path, err, log.String())
	}
	return ctx
}

// removeProfile removes the profile's directory, into which the browser's children write a little longer.
func removeProfile(t *testing.T, dir string) {
	var err error
	for range 50 {
		if err = os.RemoveAll(dir); err == nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Error(err)
}

// tab is a tab of a browser.
type tab struct {
	t   *testing.T
	ctx context.Context
}

// newBrowser is a browser of its own as far as sites can tell: it shares no cookies with any other.
func newBrowser(t *testing.T, chromium context.Context) *tab {
	t.Helper()
	return newTab(t, chromium, chromedp.WithNewBrowserContext())
}

// newTab opens another tab of the same browser.
func (b *tab) newTab() *tab { b.t.Helper(); return newTab(b.t, b.ctx) }

func newTab(t *testing.T, parent context.Context, options ...chromedp.ContextOption) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(parent, options...)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(width, height)); err != nil {
		t.Fatalf("cannot open a tab: %v", err)
	}
	return &tab{t, ctx}
}

// step is the context of one step.
func (b *tab) step() (context.Context, context.CancelFunc) {
	return context.WithTimeout(b.ctx, stepFor)
}

// open enters an address, which must give a page.
func (b *tab) open(url string) {
	b.t.Helper()
	ctx, cancel := b.step()
	defer cancel()
	response, err := chromedp.Run(ctx, chromedp.NavigateResponse(url))
	if err != nil {
		b.t.Fatalf("open %s: %v", url, err)
	}
	if response.Status != 200 {
		b.t.Fatalf("open %s: status %d, and the page says %q", url, response.Status, b.body())
	}
}

// follow clicks on what leads to another page, which must come; it returns the page's status.
func (b *tab) follow(id string) int {
	b.t.Helper()
	status, err := b.tryFollow(id)
	if err != nil {
		b.t.Fatal(err)
	}
	return status
}

// tryFollow is follow for goroutines.
func (b *tab) tryFollow(id string) (int, error) {
	ctx, cancel := b.step()
	defer cancel()
	response, err := chromedp.RunResponse(ctx, chromedp.Click(chromedp.ID(id)))
	if err != nil {
		return 0, fmt.Errorf("click on %s: %w", id, err)
	}
	return int(response.Status), nil
}

// to clicks on what leads to another page and must be welcome.
func (b *tab) to(id string) {
	b.t.Helper()
	if status := b.follow(id); status != 200 {
		b.t.Fatalf("click on %s: status %d, and the page says %q", id, status, b.body())
	}
}

// press clicks on what leads nowhere else.
func (b *tab) press(id string) {
	b.t.Helper()
	b.do("click on "+id, chromedp.Click(chromedp.ID(id)))
}

// fill types into a field.
func (b *tab) fill(id, text string) {
	b.t.Helper()
	b.do("fill "+id, chromedp.SendKeys(chromedp.ID(id), text))
}

func (b *tab) do(what string, steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := b.step()
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.t.Fatalf("%s: %v", what, err)
	}
}

// text returns what an element says, "" where there is none.
func (b *tab) text(id string) string {
	b.t.Helper()
	return eval[string](b, fmt.Sprintf(`(document.getElementById(%q)?.textContent ?? "").trim()`, id))
}

func (b *tab) has(id string) bool {
	b.t.Helper()
	return eval[bool](b, fmt.Sprintf(`document.getElementById(%q) !== null`, id))
}

func (b *tab) body() string { return eval[string](b, `document.body?.innerText ?? ""`) }

func eval[T any](b *tab, script string) T {
	b.t.Helper()
	ctx, cancel := b.step()
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](script, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%s: %v", script, err)
	}
	return v
}

func (b *tab) want(id, text string) {
	b.t.Helper()
	if got := b.text(id); got != text {
		b.t.Fatalf("%s says %q; want %q", id, got, text)
	}
}

// await waits until an element says one of texts, and returns which.
func (b *tab) await(id string, texts ...string) string {
	b.t.Helper()
	var got string
	for end := time.Now().Add(stepFor); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if got = b.text(id); slices.Contains(texts, got) {
			return got
		}
	}
	b.t.Fatalf("%s says %q and not %s", id, got, strings.Join(texts, " or "))
	return ""
}

// cookie returns a cookie of the page, which must have it.
func (b *tab) cookie(name string) network.Cookie {
	b.t.Helper()
	ctx, cancel := b.step()
	defer cancel()
	jar, err := chromedp.Call(ctx, network.GetCookies, network.GetCookiesParams{})
	if err != nil {
		b.t.Fatal(err)
	}
	for _, c := range jar.Cookies {
		if c.Name == name {
			return *c
		}
	}
	b.t.Fatalf("the browser has no cookie %s", name)
	return network.Cookie{}
}

// plant puts a cookie into the browser.
func (b *tab) plant(url, name, value string) {
	b.t.Helper()
	ctx, cancel := b.step()
	defer cancel()
	if _, err := chromedp.Call(ctx, network.SetCookie, network.SetCookieParams{Name: name, Value: value, URL: url}); err != nil {
		b.t.Fatal(err)
	}
}

// picture leaves a screenshot of the whole page for the documentation, if that is wanted.
func (b *tab) picture(name string, tall int64) {
	b.t.Helper()
	dir := os.Getenv("SESSIONRING_FIGURES")
	if dir == "" {
		return
	}
	b.do("resize", chromedp.EmulateViewport(width, tall))
	defer b.do("resize", chromedp.EmulateViewport(width, height))
	ctx, cancel := b.step()
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644)
	}
	if err != nil {
		b.t.Fatalf("picture %s: %v", name, err)
	}
}
