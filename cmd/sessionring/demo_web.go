package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"time"

	"github.com/sessionring/sessionring"
	"github.com/sessionring/sessionring/phpsession"
)

const (
	demoCookie     = "sessionring_demo"
	demoIDBytes    = 16 // 128 bits
	demoVisitFor   = 5 * time.Second
	demoExplainFor = 400 * time.Millisecond // a node that hangs must not hold up the page
	demoTries      = 64                     // a visit that loses against so many others gives up
	demoShown      = 14                     // events on the page
)

//go:embed demo
var demoFiles embed.FS

var demoPage = template.Must(template.ParseFS(demoFiles, "demo/page.html"))

func (d *demo) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", d.visit)
	mux.HandleFunc("GET /look", d.lookOnly)
	mux.HandleFunc("GET /state.json", d.state)
	mux.HandleFunc("POST /nodes/{node}/{action}", d.press)
	for _, name := range []string{"page.css", "page.js"} {
		mux.HandleFunc("GET /"+name, func(w http.ResponseWriter, r *http.Request) {
			http.ServeFileFS(w, r, demoFiles, "demo/"+name)
		})
	}
	// Another site's page must not press the buttons.
	return http.NewCrossOriginProtection().Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		mux.ServeHTTP(w, r)
	}))
}

// errAway means that a session may exist on nodes that cannot be asked.
var errAway = errors.New("the nodes that hold your session are away")

// visit is the counter: each one adds to it.
func (d *demo) visit(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodHead {
		return // no visit
	}
	ctx, cancel := context.WithTimeout(r.Context(), demoVisitFor)
	defer cancel()
	id, known := sessionCookie(r)
	count, id, fresh, err := d.countVisit(ctx, id)
	view := d.view(ctx, id)
	status := http.StatusOK
	switch {
	case err != nil:
		status = http.StatusServiceUnavailable
		view.Message = wordVisit(err)
	default:
		view.Visits = strconv.FormatInt(count, 10)
		if fresh {
			http.SetCookie(w, &http.Cookie{Name: demoCookie, Value: id, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
			if known {
				view.Message = "Your earlier session is gone: it ended, or every node that held it came back empty. A new one begins."
			}
		}
	}
	d.render(w, status, view)
}

// lookOnly shows the page without counting: where a button leads without JavaScript.
func (d *demo) lookOnly(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), demoVisitFor)
	defer cancel()
	id, known := sessionCookie(r)
	view := d.view(ctx, id)
	if known {
		d.lookAtCounter(ctx, id, view)
	}
	d.render(w, http.StatusOK, view)
}

// state is what the page's script asks every second. It counts no visit.
func (d *demo) state(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), demoVisitFor)
	defer cancel()
	id, known := sessionCookie(r)
	view := d.view(ctx, id)
	if known {
		d.lookAtCounter(ctx, id, view)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(view) // the browser is gone
}

// press is a button.
func (d *demo) press(w http.ResponseWriter, r *http.Request) {
	node, err := strconv.Atoi(r.PathValue("node"))
	if err != nil || node < 0 || node >= len(d.nodes) {
		http.Error(w, fmt.Sprintf("there is no such node; 0 to %d are", len(d.nodes)-1), http.StatusNotFound)
		return
	}
	action := r.PathValue("action")
	switch action {
	case "kill", "hang", "revive", "revive-empty":
	default:
		http.Error(w, "a node can be told to kill, hang, revive or revive-empty", http.StatusNotFound)
		return
	}
	err = d.act(node, action) // is told on the page
	if r.Header.Get("Accept") == "application/json" {
		if err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		w.WriteHeader(http.StatusNoContent)
		return
	}
	http.Redirect(w, r, "/look", http.StatusSeeOther)
}

func (d *demo) render(w http.ResponseWriter, status int, view *demoView) {
	var b bytes.Buffer
	if err := demoPage.Execute(&b, view); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // the browser is gone
}

// sessionCookie returns the request's session id; anything that the demo did not make itself is none.
func sessionCookie(r *http.Request) (id string, ok bool) {
	c, err := r.Cookie(demoCookie)
	if err != nil {
		return "", false
	}
	if b, err := hex.DecodeString(c.Value); err != nil || len(b) != demoIDBytes {
		return "", false
	}
	return c.Value, true
}

func newDemoID() string {
	var b [demoIDBytes]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// countVisit adds one to the counter in the session. Visits at the same time are all counted: the write happens
// only if nobody else wrote since the read.
func (d *demo) countVisit(ctx context.Context, id string) (visits int64, newID string, fresh bool, err error) {
	if id == "" {
		id, fresh = newDemoID(), true
	}
	for range demoTries {
		item, err := d.client.Load(ctx, id, sessionring.GetOptions{})
		switch {
		case errors.Is(err, sessionring.ErrNotFound) && fresh:
		case errors.Is(err, sessionring.ErrNotFound) && errors.Is(err, sessionring.ErrOwnerAway):
			if d.client.Ring().Copies() > 1 {
				return 0, id, false, errAway // counting anew would bury the session that comes back
			}
		case errors.Is(err, sessionring.ErrNotFound):
			id, fresh = newDemoID(), true // never revive an id that the server does not know
		case err != nil:
			return 0, id, fresh, err
		}
		session, err := phpsession.Decode(phpsession.PHP, item.Data)
		if err != nil {
			return 0, id, fresh, err
		}
		visits, err := phpsession.Get[int64](session, "visits")
		if err != nil && !errors.Is(err, phpsession.ErrNoKey) {
			return 0, id, fresh, err
		}
		visits++
		if err := session.Set("visits", visits); err != nil {
			return 0, id, fresh, err
		}
		data, err := session.Encode(phpsession.PHP)
		if err != nil {
			return 0, id, fresh, err
		}
		_, err = d.client.Store(ctx, id, data, sessionring.SetOptions{IfVersion: &item.Version})
		switch {
		case err == nil:
			return visits, id, fresh, nil
		case errors.Is(err, sessionring.ErrConflict):
			continue
		case errors.Is(err, sessionring.ErrDestroyed):
			id, fresh = newDemoID(), true
			continue
		}
		return 0, id, fresh, err
	}
	return 0, id, fresh, sessionring.ErrConflict
}

// lookAtCounter reads the counter without counting.
func (d *demo) lookAtCounter(ctx context.Context, id string, view *demoView) {
	data, err := d.client.Get(ctx, id)
	switch {
	case errors.Is(err, sessionring.ErrNotFound) && errors.Is(err, sessionring.ErrOwnerAway):
		view.Message = wordVisit(errAway)
	case errors.Is(err, sessionring.ErrNotFound):
	case err != nil:
		view.Message = wordVisit(err)
	default:
		session, err := phpsession.Decode(phpsession.PHP, data)
		if err != nil {
			view.Message = wordVisit(err)
			return
		}
		if n, err := phpsession.Get[int64](session, "visits"); err == nil {
			view.Visits = strconv.FormatInt(n, 10)
		}
	}
}

// wordVisit says why there is no counter.
func wordVisit(err error) string {
	switch {
	case errors.Is(err, errAway):
		return "The nodes that hold your session are away or only just coming back. It was not thrown away, and nothing was counted: revive one of them and visit again."
	case errors.Is(err, sessionring.ErrNoNode):
		return "No node answers, so this visit was not counted. Revive one: the page goes on by itself, nothing needs a restart."
	case errors.Is(err, sessionring.ErrConflict):
		return "Too many visits at the same time; this one was not counted."
	}
	return "This visit may not have been counted: " + plain(err) + "."
}

// demoView is what the page shows; state.json is the same for its script.
type demoView struct {
	Visits   string          `json:"visits"`  // "" when it cannot be told
	Message  string          `json:"message"` // what is wrong, in words
	Session  string          `json:"session"` // the id, shortened
	Embedded bool            `json:"embedded"`
	SavePath string          `json:"save_path"`
	Copies   int             `json:"copies"`
	Nodes    []demoNodeView  `json:"nodes"`
	Events   []demoEventView `json:"events"`
}

type demoNodeView struct {
	Index     int     `json:"index"`
	Address   string  `json:"address"`
	Weight    int     `json:"weight"`
	Share     string  `json:"share"`
	State     string  `json:"state"`     // in the client's eyes
	Condition string  `json:"condition"` // of the process
	Cause     string  `json:"cause"`     // why the client thinks so
	Keys      string  `json:"keys"`
	Latency   string  `json:"latency"`
	Holds     string  `json:"holds"` // what it holds of this session: owner, copy, or ""
	Copy      string  `json:"copy"`  // the same in words
	Arc       demoArc `json:"-"`
}

type demoEventView struct {
	Time  string `json:"time"`
	Node  string `json:"node"`
	Kind  string `json:"kind"`
	Text  string `json:"text"`
	Cause string `json:"cause"`
}

// view collects what the page shows of one session, or of none.
func (d *demo) view(ctx context.Context, id string) *demoView {
	ring := d.client.Ring()
	v := &demoView{Embedded: d.embedded, SavePath: d.path, Copies: ring.Copies(), Events: []demoEventView{}}
	arcs := ringArcs(ring.Shares())
	for i, s := range d.client.Nodes() {
		n := demoNodeView{
			Index: i, Address: d.nodes[i].Addr(), Weight: s.Weight, Share: percent(s.Share),
			State: s.State.String(), Condition: d.nodes[i].Condition(), Keys: "–", Latency: "–", Arc: arcs[i],
		}
		if s.State != sessionring.StateUp && s.LastErr != nil {
			n.Cause = wordCause(s.LastErr)
		}
		v.Nodes = append(v.Nodes, n)
	}
	d.mu.Lock()
	for i, l := range d.looks {
		if l.known {
			v.Nodes[i].Keys = strconv.FormatInt(l.keys, 10)
			v.Nodes[i].Latency = fmt.Sprintf("%.2f ms", float64(l.latency)/1e6)
		}
	}
	for _, e := range d.events[:min(len(d.events), demoShown)] {
		v.Events = append(v.Events, demoEventView{
			Time: e.At.Format("15:04:05.000"), Node: fmt.Sprintf("node %d", e.Node), Kind: e.Kind, Text: e.Text, Cause: e.Cause,
		})
	}
	d.mu.Unlock()
	if id != "" {
		v.Session = shorten(id)
		d.placeSession(ctx, id, v)
	}
	return v
}

// placeSession tells where a session should live, and where copies of it are.
func (d *demo) placeSession(ctx context.Context, id string, v *demoView) {
	for _, i := range d.client.Ring().Owners(id) {
		v.Nodes[i].Holds, v.Nodes[i].Copy = "owner", "owner, no answer"
	}
	ctx, cancel := context.WithTimeout(ctx, demoExplainFor)
	defer cancel()
	copies, err := d.client.Explain(ctx, id)
	if err != nil {
		return // owners are shown, copies are not
	}
	newest := sessionring.Version("")
	for _, c := range copies {
		if c.Present {
			newest = max(newest, c.Version)
		}
	}
	for _, c := range copies {
		n := &v.Nodes[c.Index]
		switch {
		case c.Err != nil && c.Owner:
			n.Copy = "owner, away"
		case c.Err != nil:
		case !c.Present && c.Owner:
			n.Copy = "owner, no copy yet"
		case !c.Present:
		default:
			n.Copy = "copy"
			if c.Owner {
				n.Copy = "owner"
			} else {
				n.Holds, n.Copy = "copy", "stand-in copy"
			}
			age := "newest"
			if c.Version != newest {
				age = "older"
			}
			n.Copy += fmt.Sprintf(", %s, %d bytes, %d s left", age, c.Bytes, int(c.TTL.Seconds()))
		}
	}
}
