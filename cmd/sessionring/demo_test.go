package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sessionring/sessionring/internal/redistest"
)

// quietApp is an app that prints nothing.
func quietApp() *app {
	return &app{globals: &globals{}, streams: streams{
		in: strings.NewReader(""), out: io.Discard, err: io.Discard, env: func(string) (string, bool) { return "", false },
	}}
}

// demoSite is a demo with its page served.
type demoSite struct {
	t   *testing.T
	d   *demo
	url string
}

func openDemo(t *testing.T, c demoCmd) *demoSite {
	t.Helper()
	if !c.Embedded {
		redistest.FindOrSkip(t)
	}
	if c.Nodes == 0 {
		c.Nodes = 3
	}
	d, err := startDemo(t.Context(), quietApp(), &c)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(d.handler())
	t.Cleanup(func() {
		server.Close()
		if err := d.close(); err != nil {
			t.Error(err)
		}
	})
	return &demoSite{t, d, server.URL}
}

// demoBrowser keeps its cookies.
type demoBrowser struct {
	*demoSite
	client *http.Client
}

func (s *demoSite) browser() *demoBrowser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return &demoBrowser{s, &http.Client{Jar: jar, Timeout: time.Minute}}
}

func (b *demoBrowser) request(method, path string, header ...string) (status int, body string) {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), method, b.url+path, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := b.client.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

var counterText = regexp.MustCompile(`id="counter"[^>]*>([^<]*)<`)

// visit counts once and returns the number on the page.
func (b *demoBrowser) visit() (status int, counter string) {
	b.t.Helper()
	status, body := b.request("GET", "/")
	m := counterText.FindStringSubmatch(body)
	if m == nil {
		b.t.Fatalf("no counter on the page (%d): %s", status, body)
	}
	return status, m[1]
}

// wantVisit visits and checks the number. On a machine so busy that a healthy node does not answer for a while the
// page may say, beside the node that was taken away, that both owners are: then nothing was counted.
func (b *demoBrowser) wantVisit(counter int) {
	b.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		status, body := b.request("GET", "/")
		m := counterText.FindStringSubmatch(body)
		switch {
		case m != nil && status == http.StatusOK && m[1] == fmt.Sprint(counter):
			return
		case status == http.StatusServiceUnavailable && strings.Contains(body, "nothing was counted") && time.Now().Before(end):
			continue
		}
		b.t.Fatalf("the page shows %v (%d); want %d", m, status, counter)
	}
}

func (b *demoBrowser) state() demoView {
	b.t.Helper()
	status, body := b.request("GET", "/state.json")
	var v demoView
	if err := json.Unmarshal([]byte(body), &v); err != nil || status != http.StatusOK {
		b.t.Fatalf("state.json (%d): %v", status, err)
	}
	return v
}

func (b *demoBrowser) press(node int, action string) {
	b.t.Helper()
	status, body := b.request("POST", fmt.Sprintf("/nodes/%d/%s", node, action), "Accept", "application/json")
	if status != http.StatusNoContent {
		b.t.Fatalf("%s of node %d: %d %s", action, node, status, body)
	}
}

// waitStates waits until the client thinks so of every node.
func (b *demoBrowser) waitStates(want string) {
	b.t.Helper()
	var v demoView
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		v = b.state()
		all := true
		for _, n := range v.Nodes {
			all = all && n.State == want
		}
		if all {
			return
		}
	}
	b.t.Fatalf("not all nodes are %s: %+v", want, v.Nodes)
}

// waitCopies waits until both owners hold the newest copy.
func (b *demoBrowser) waitCopies() {
	b.t.Helper()
	var v demoView
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		v = b.state()
		whole := 0
		for _, n := range v.Nodes {
			if strings.HasPrefix(n.Copy, "owner, newest") {
				whole++
			}
		}
		if whole == 2 {
			return
		}
	}
	b.t.Fatalf("the session has not two copies: %+v", v.Nodes)
}

// owners are the nodes that should hold the browser's session.
func (b *demoBrowser) owners() []int {
	b.t.Helper()
	var out []int
	for _, n := range b.state().Nodes {
		if n.Holds == "owner" {
			out = append(out, n.Index)
		}
	}
	return out
}

func TestDemoCounterGoesOn(t *testing.T) {
	s := openDemo(t, demoCmd{})
	one, two := s.browser(), s.browser()
	for i := range 3 {
		one.wantVisit(i + 1)
	}
	two.wantVisit(1) // different browsers see different counters
	one.waitStates("up")

	owners := one.owners()
	if len(owners) != 2 {
		t.Fatalf("owners %v; a session has 2", owners)
	}
	one.press(owners[0], "kill")
	one.wantVisit(4)
	two.wantVisit(2)
	one.press(owners[0], "revive") // with the data it had: counter 3
	one.waitStates("up")
	one.wantVisit(5)

	one.press(owners[1], "hang")
	one.wantVisit(6)
	two.wantVisit(3)
	one.press(owners[1], "revive")
	one.waitStates("up")
	one.wantVisit(7)

	// A node emptied and back within a moment is found out at the next look: until its copy is back, the other
	// owner holds the only one.
	one.press(owners[0], "revive-empty")
	one.waitCopies()
	one.press(owners[1], "revive-empty")
	one.waitCopies()
	one.wantVisit(8)
	two.wantVisit(4)
	if v := one.state(); v.Visits != "8" || len(v.Events) == 0 || v.Embedded {
		t.Errorf("looking counts nothing and tells what happened: %+v", v)
	}
}

func TestDemoAllNodesDead(t *testing.T) {
	s := openDemo(t, demoCmd{})
	b := s.browser()
	b.wantVisit(1)
	b.waitStates("up")
	for i := range s.d.nodes {
		b.press(i, "kill")
	}
	for range 2 { // at the fall, and with all breakers open
		status, body := b.request("GET", "/")
		if status != http.StatusServiceUnavailable || !strings.Contains(body, "No node answers") {
			t.Fatalf("%d: %s", status, body)
		}
	}
	if status, body := b.request("GET", "/look"); status != http.StatusOK || !strings.Contains(body, `id="revive-2"`) {
		t.Fatalf("the page without a node, %d: %s", status, body)
	}
	for i := range s.d.nodes {
		b.press(i, "revive")
	}
	b.waitStates("up")
	b.wantVisit(2)
}

// Nothing is counted while the only nodes with the session are away, for counting anew would bury it.
func TestDemoOwnersAway(t *testing.T) {
	s := openDemo(t, demoCmd{})
	b := s.browser()
	b.wantVisit(1)
	b.waitStates("up")
	owners := b.owners()
	for _, i := range owners {
		b.press(i, "kill")
	}
	status, body := b.request("GET", "/")
	if status != http.StatusServiceUnavailable || !strings.Contains(body, "not thrown away") {
		t.Fatalf("%d: %s", status, body)
	}
	other := s.browser()
	other.wantVisit(1) // a new session begins on the node that is left
	b.press(owners[1], "revive")
	b.press(owners[0], "revive")
	b.waitStates("up")
	b.wantVisit(2)
	other.wantVisit(2)
}

func TestDemoSessionGone(t *testing.T) {
	s := openDemo(t, demoCmd{})
	b := s.browser()
	b.wantVisit(1)
	old := b.state().Session
	for i := range s.d.nodes {
		b.press(i, "revive-empty")
	}
	// Until the nodes have been compared, the session may still turn up on one of them.
	status, body := b.request("GET", "/")
	for end := time.Now().Add(30 * time.Second); status == http.StatusServiceUnavailable && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
		status, body = b.request("GET", "/")
	}
	if m := counterText.FindStringSubmatch(body); status != http.StatusOK || m[1] != "1" || !strings.Contains(body, "earlier session is gone") {
		t.Fatalf("%d: counter %v", status, m)
	}
	if id := b.state().Session; id == old {
		t.Error("an id that the nodes do not know was taken up again")
	}
}

func TestDemoEmbedded(t *testing.T) {
	s := openDemo(t, demoCmd{Embedded: true})
	b := s.browser()
	for i := range 2 {
		b.wantVisit(i + 1)
	}
	b.waitStates("up")
	_, body := b.request("GET", "/look")
	if !strings.Contains(body, "<strong>embedded</strong>") || !strings.Contains(body, `id="hang-0" class="bad" disabled`) {
		t.Error("the page does not say that its nodes are embedded and cannot hang")
	}
	status, body := b.request("POST", "/nodes/0/hang", "Accept", "application/json")
	if status != http.StatusConflict || !strings.Contains(body, "cannot hang") {
		t.Errorf("hang: %d %s", status, body)
	}
	first := b.owners()[0]
	for range 2 { // a second press changes nothing
		b.press(first, "kill")
	}
	b.wantVisit(3)
	for range 2 {
		b.press(first, "revive")
	}
	b.waitStates("up")
	b.wantVisit(4)
	b.press(first, "kill")
	b.press(first, "revive-empty")
	b.waitStates("up")
	b.wantVisit(5)
}

// Two tabs of one browser at the same time: every visit counts.
func TestDemoParallelVisits(t *testing.T) {
	s := openDemo(t, demoCmd{Embedded: true})
	b := s.browser()
	b.wantVisit(1)
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[string]bool{}
	for range 8 {
		wg.Go(func() {
			for range 5 {
				_, n := b.visit()
				mu.Lock()
				seen[n] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(seen) != 40 {
		t.Errorf("40 visits saw %d different numbers", len(seen))
	}
	b.wantVisit(42)
}

func TestDemoRefusals(t *testing.T) {
	s := openDemo(t, demoCmd{Embedded: true})
	b := s.browser()
	for _, c := range []struct {
		method, path string
		header       []string
		want         int
	}{
		{"POST", "/nodes/0/kill", []string{"Origin", "http://elsewhere.example"}, http.StatusForbidden},
		{"POST", "/nodes/0/kill", []string{"Sec-Fetch-Site", "cross-site"}, http.StatusForbidden},
		{"GET", "/nodes/0/kill", nil, http.StatusMethodNotAllowed},
		{"POST", "/nodes/3/kill", nil, http.StatusNotFound},
		{"POST", "/nodes/-1/kill", nil, http.StatusNotFound},
		{"POST", "/nodes/zero/kill", nil, http.StatusNotFound},
		{"POST", "/nodes/0/explode", nil, http.StatusNotFound},
		{"GET", "/favicon.ico", nil, http.StatusNotFound},
		{"HEAD", "/", nil, http.StatusOK},
	} {
		if status, body := b.request(c.method, c.path, c.header...); status != c.want {
			t.Errorf("%s %s: %d %s; want %d", c.method, c.path, status, body, c.want)
		}
	}
	for i, n := range s.d.nodes {
		if n.Condition() != conditionRunning {
			t.Errorf("node %d is %s", i, n.Condition())
		}
	}
	// A made-up cookie is not taken up: its id would be its maker's to use.
	req, _ := http.NewRequestWithContext(t.Context(), "GET", s.url+"/", nil)
	forged := strings.Repeat("0", 2*demoIDBytes)
	req.AddCookie(&http.Cookie{Name: demoCookie, Value: forged})
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	set := res.Cookies()
	if len(set) != 1 || set[0].Value == forged || !set[0].HttpOnly || set[0].SameSite != http.SameSiteLaxMode {
		t.Errorf("cookies for a made-up id: %v", set)
	}
	// Without JavaScript a button leads back to a page that does not count.
	if status, body := b.request("POST", "/nodes/0/revive"); status != http.StatusOK || !strings.Contains(body, `id="counter" class="number">–<`) {
		t.Errorf("after a button: %d %s", status, body)
	}
}

// Any sequence of buttons, pressed by two people while others visit, leaves a demo that works.
func TestDemoSurvivesButtons(t *testing.T) {
	s := openDemo(t, demoCmd{})
	ctx, stop := context.WithCancel(t.Context())
	var visitors sync.WaitGroup
	for range 2 {
		b := s.browser()
		visitors.Go(func() {
			for ctx.Err() == nil {
				if status, n := b.visit(); status != http.StatusOK && status != http.StatusServiceUnavailable {
					t.Errorf("a visit ended with %d, counter %s", status, n)
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	var pressers sync.WaitGroup
	for i := range 2 {
		b := s.browser()
		pressers.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(i)))
			actions := []string{"kill", "hang", "revive", "revive-empty"}
			for range 25 {
				node, action := rng.IntN(3), actions[rng.IntN(len(actions))]
				status, body := b.request("POST", fmt.Sprintf("/nodes/%d/%s", node, action), "Accept", "application/json")
				if status != http.StatusNoContent && status != http.StatusConflict {
					t.Errorf("%s of node %d: %d %s", action, node, status, body)
				}
			}
		})
	}
	pressers.Wait()
	stop()
	visitors.Wait()
	b := s.browser()
	for i := range s.d.nodes {
		b.press(i, "revive")
	}
	b.waitStates("up")
	for i := range 3 {
		b.wantVisit(i + 1)
	}
}

func TestDemoCommand(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, in := io.Pipe()
	done := make(chan int, 1)
	var errOut bytes.Buffer
	go func() {
		code := run(ctx, []string{"demo", "--embedded", "--addr", ":0", "--json"}, streams{
			in: strings.NewReader(""), out: in, err: &errOut, env: func(string) (string, bool) { return "", false },
		})
		_ = in.Close()
		done <- code
	}()
	var line struct {
		URL      string `json:"url"`
		Nodes    int    `json:"nodes"`
		Embedded bool   `json:"embedded"`
		SavePath string `json:"save_path"`
	}
	if err := json.NewDecoder(out).Decode(&line); err != nil {
		t.Fatal(err)
	}
	if line.Nodes != 3 || !line.Embedded || !strings.HasPrefix(line.URL, "http://127.0.0.1:") {
		t.Errorf("%+v", line)
	}
	req, _ := http.NewRequestWithContext(ctx, "GET", line.URL, nil)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("the page: %d", res.StatusCode)
	}
	cancel()
	select {
	case code := <-done:
		if code != exitDone {
			t.Errorf("exit %d: %s", code, errOut.String())
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the demo does not end")
	}
	for _, entry := range strings.Split(line.SavePath, ", ") {
		addr, _, _ := strings.Cut(strings.TrimPrefix(entry, "tcp://"), "?")
		if c, err := net.DialTimeout("tcp", addr, time.Second); err == nil {
			_ = c.Close()
			t.Errorf("the node at %s is still there", addr)
		}
	}
}

func TestDemoUsage(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--nodes", "0"}, exitUsage, "--nodes must be 1 to 16"},
		{[]string{"--nodes", "17"}, exitUsage, "--nodes must be 1 to 16"},
		{[]string{"--copies", "-1"}, exitUsage, "--copies"},
		{[]string{"--addr", "8080"}, exitUsage, ":PORT"},
		{[]string{"--addr", taken.Addr().String()}, exitFailed, "--addr :0"},
	} {
		var errOut bytes.Buffer
		code := run(t.Context(), append([]string{"demo", "--embedded"}, c.args...), streams{
			in: strings.NewReader(""), out: io.Discard, err: &errOut, env: func(string) (string, bool) { return "", false },
		})
		if code != c.code || !strings.Contains(errOut.String(), c.says) {
			t.Errorf("%v: exit %d, %s", c.args, code, errOut.String())
		}
	}
}

func TestRingArcs(t *testing.T) {
	number := regexp.MustCompile(`-?[0-9.]+`)
	for _, shares := range [][]float64{{1}, {0.5, 0.5}, {0.2, 0.4, 0.4}, {0.999999, 0.000001}, {0, 1}} {
		for i, a := range ringArcs(shares) {
			if strings.Contains(a.Path, "NaN") || !strings.HasPrefix(a.Path, "M") {
				t.Errorf("shares %v, arc %d: %s", shares, i, a.Path)
			}
			for _, s := range number.FindAllString(a.Path, -1) {
				var f float64
				if _, err := fmt.Sscan(s, &f); err != nil || f < 0 || f > ringSize {
					t.Errorf("shares %v, arc %d leaves the picture: %s", shares, i, a.Path)
				}
			}
		}
	}
	// A quarter begins at the top and ends at the right.
	a := ringArcs([]float64{0.25, 0.75})[0]
	var x, y float64
	if _, err := fmt.Sscan(a.LinkX+" "+a.LinkY, &x, &y); err != nil || math.Abs((x-200)-(200-y)) > 0.2 || x < 200 {
		t.Errorf("the middle of the first quarter is at %s, %s", a.LinkX, a.LinkY)
	}
}
