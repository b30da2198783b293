package browser

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sessionring/sessionring/internal/redistest"
)

const demoNodes = 3

// owner returns a node that holds the browser's session, as the page says.
func (b *tab) owner() int {
	b.t.Helper()
	for i := range demoNodes {
		if copyText := b.text(fmt.Sprintf("node-%d-copy", i)); strings.Contains(copyText, "owner") {
			return i
		}
	}
	b.t.Fatalf("no node is an owner of the session: %q", b.body())
	return 0
}

// TestDemo does what the demo is for: the nodes are killed, hung and revived by the page's own buttons, and the
// counter goes on.
func TestDemo(t *testing.T) {
	t.Parallel()
	findChromium(t)
	redistest.FindOrSkip(t)
	line := start(t, build(t, filepath.Join(root(t), "cmd/sessionring")), "demo", "--json", "--addr", "127.0.0.1:0", "--nodes", fmt.Sprint(demoNodes))
	var at struct{ URL string }
	if err := json.Unmarshal([]byte(line), &at); err != nil || at.URL == "" {
		t.Fatalf("the demo's address: %v: %s", err, line)
	}
	chromium := startChromium(t)
	one, two := newBrowser(t, chromium), newBrowser(t, chromium)
	node := func(id string, i int) string { return fmt.Sprintf(id, i) }
	allUp := func() {
		t.Helper()
		for i := range demoNodes {
			one.await(node("node-%d-state", i), "up")
		}
	}

	one.open(at.URL)
	one.want("counter", "1")
	one.to("visit")
	one.want("counter", "2")
	two.open(at.URL)
	two.want("counter", "1") // another browser, another session
	one.to("visit")
	one.want("counter", "3")
	allUp()
	one.picture("demo", height)

	dead := one.owner()
	one.press(node("kill-%d", dead))
	one.await(node("node-%d-process", dead), "killed")
	for n := 4; n <= 8; n++ { // at once, before anybody knows that the node is gone
		one.to("visit")
		one.want("counter", fmt.Sprint(n))
	}
	one.await(node("node-%d-state", dead), "down", "suspect")
	one.picture("demo-node-killed", height)
	two.to("visit")
	two.want("counter", "2")

	one.press(node("revive-empty-%d", dead))
	allUp()
	one.to("visit")
	one.want("counter", "9")

	// The owner that is left hangs: its sessions are read from the one that came back empty.
	hung := one.owner()
	one.press(node("hang-%d", hung))
	for n := 10; n <= 12; n++ {
		one.to("visit")
		one.want("counter", fmt.Sprint(n))
	}
	one.await(node("node-%d-state", hung), "down", "suspect")
	one.press(node("revive-%d", hung))
	allUp()
	one.to("visit")
	one.want("counter", "13")
	two.to("visit")
	two.want("counter", "3")
}
