package main

import (
	"bytes"
	"crypto/subtle"
	"embed"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/sessionring/sessionring"
	"github.com/sessionring/sessionring/websession"
)

//go:embed pages
var pages embed.FS

var pageTemplates = template.Must(template.New("").Funcs(template.FuncMap{"euro": euro, "ago": ago}).ParseFS(pages, "pages/*.html"))

// accounts are name and password of those who may log in. A real shop has a table of password hashes.
var accounts = map[string]string{"ada": "lovelace", "grace": "hopper"}

// settings are what the flags set.
type settings struct {
	Parallel   parallel
	StockCheck time.Duration
	Grace      time.Duration
	Logger     *slog.Logger
}

// shop is the application. All that it knows about its visitors is in their sessions.
type shop struct {
	sessions *websession.Manager
	settings settings
}

func newShop(client *sessionring.Client, set settings) (http.Handler, error) {
	opt := websession.Options{
		RegenerateGrace: set.Grace,
		AbsoluteTimeout: 30 * 24 * time.Hour,
		Label:           func(r *http.Request) string { return deviceName(r.UserAgent()) },
		Logger:          set.Logger,
		Skip:            func(r *http.Request) bool { return r.URL.Path == "/shop.css" },
	}
	set.Parallel.apply(&opt)
	sessions, err := websession.New(client, opt)
	if err != nil {
		return nil, err
	}
	s := &shop{sessions: sessions, settings: set}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.catalogue)
	mux.HandleFunc("GET /cart", s.showCart)
	mux.HandleFunc("POST /cart/add", s.add)
	mux.HandleFunc("POST /cart/remove", s.remove)
	mux.HandleFunc("GET /login", s.showLogin)
	mux.HandleFunc("POST /login", s.login)
	mux.HandleFunc("POST /logout", s.logout)
	mux.HandleFunc("GET /devices", s.devices)
	mux.HandleFunc("POST /devices/end", s.endDevice)
	mux.HandleFunc("POST /logout-everywhere", s.logoutEverywhere)
	mux.HandleFunc("GET /shop.css", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFileFS(w, r, pages, "pages/shop.css")
	})
	// A page of another site must not press our buttons, whatever the cookie's SameSite says.
	return http.NewCrossOriginProtection().Handler(secured(sessions.Wrap(mux))), nil
}

// deviceName says what a user agent is, as far as somebody looking for his own devices needs it.
func deviceName(agent string) string {
	first := func(names ...string) string {
		for _, n := range names {
			if strings.Contains(agent, n) {
				return n
			}
		}
		return ""
	}
	browser := first("Firefox", "Edg", "Chrome", "Safari", "curl") // Chrome says Safari too, Edge says both
	system := first("Android", "iPhone", "iPad", "Windows", "Mac OS", "Linux")
	switch {
	case browser == "":
		return "Some browser"
	case system == "":
		return browser
	}
	return strings.Replace(browser, "Edg", "Edge", 1) + " on " + system
}

func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		next.ServeHTTP(w, r)
	})
}

func (s *shop) catalogue(w http.ResponseWriter, r *http.Request) {
	s.render(w, r, "catalogue", page{Title: "Teas and pots", Products: products})
}

func (s *shop) showCart(w http.ResponseWriter, r *http.Request) {
	s.render(w, r, "cart", page{Title: "Your cart"})
}

func (s *shop) add(w http.ResponseWriter, r *http.Request) {
	p, ok := find(r.FormValue("product"))
	if !ok {
		http.Error(w, "there is no such product", http.StatusNotFound)
		return
	}
	session := websession.Get(r)
	basket, err := websession.Value[cart](session, cartKey)
	if err != nil {
		failed(w, err)
		return
	}
	time.Sleep(s.settings.StockCheck)
	if err = websession.Put(session, cartKey, basket.with(p.ID, 1)); err == nil {
		err = session.AddFlash("success", p.Name+" is in your cart.")
	}
	done(w, r, err, "/")
}

func (s *shop) remove(w http.ResponseWriter, r *http.Request) {
	session := websession.Get(r)
	basket, err := websession.Value[cart](session, cartKey)
	if err == nil {
		err = websession.Put(session, cartKey, basket.with(r.FormValue("product"), -1))
	}
	done(w, r, err, "/cart")
}

func (s *shop) showLogin(w http.ResponseWriter, r *http.Request) {
	s.render(w, r, "login", page{Title: "Log in"})
}

func (s *shop) login(w http.ResponseWriter, r *http.Request) {
	name := r.FormValue("name")
	password, known := accounts[name]
	if right := subtle.ConstantTimeCompare([]byte(password), []byte(r.FormValue("password"))) == 1; !known || !right {
		s.render(w, r, "login", page{Title: "Log in", Wrong: true, Status: http.StatusUnauthorized})
		return
	}
	session := websession.Get(r)
	// A new id: the old one may be known to whoever used the browser before, or planted it.
	err := session.Regenerate(r.Context())
	if err == nil {
		err = session.SetUser(name)
	}
	if err == nil {
		err = session.AddFlash("success", "Welcome, "+name+".")
	}
	done(w, r, err, "/")
}

func (s *shop) logout(w http.ResponseWriter, r *http.Request) {
	done(w, r, websession.Get(r).Destroy(r.Context()), "/")
}

func (s *shop) devices(w http.ResponseWriter, r *http.Request) {
	user, ok := s.user(w, r)
	if !ok {
		return
	}
	list, err := s.sessions.SessionsOf(r.Context(), user)
	if err != nil {
		failed(w, err)
		return
	}
	s.render(w, r, "devices", page{Title: "My devices", Devices: list})
}

func (s *shop) endDevice(w http.ResponseWriter, r *http.Request) {
	user, ok := s.user(w, r)
	if !ok {
		return
	}
	done(w, r, s.sessions.DestroySession(r.Context(), user, r.FormValue("device")), "/devices")
}

func (s *shop) logoutEverywhere(w http.ResponseWriter, r *http.Request) {
	user, ok := s.user(w, r)
	if !ok {
		return
	}
	_, err := s.sessions.DestroyAll(r.Context(), user)
	done(w, r, err, "/")
}

// user returns who is logged in; who is not is sent to do so.
func (s *shop) user(w http.ResponseWriter, r *http.Request) (name string, ok bool) {
	name, err := websession.Get(r).User()
	switch {
	case err != nil:
		failed(w, err)
	case name == "":
		http.Redirect(w, r, "/login", http.StatusSeeOther)
	default:
		return name, true
	}
	return "", false
}

// done ends a request that changed something.
func done(w http.ResponseWriter, r *http.Request, err error, next string) {
	if err != nil {
		failed(w, err)
		return
	}
	http.Redirect(w, r, next, http.StatusSeeOther)
}

func failed(w http.ResponseWriter, err error) {
	http.Error(w, http.StatusText(websession.Status(err)), websession.Status(err))
}

// page is what the templates see.
type page struct {
	Title    string
	Wrong    bool // name or password
	Status   int  // 200 when 0
	Products []product
	Devices  []websession.UserSession

	User    string
	Cart    cart
	Flashes []websession.Flash
	Handle  string // names the session without giving its id away
}

func (s *shop) render(w http.ResponseWriter, r *http.Request, name string, p page) {
	session := websession.Get(r)
	var err error
	if p.User, err = session.User(); err != nil {
		failed(w, err)
		return
	}
	if p.Cart, err = websession.Value[cart](session, cartKey); err != nil {
		failed(w, err)
		return
	}
	if p.Flashes, err = session.Flashes(); err != nil {
		failed(w, err)
		return
	}
	if !session.New() {
		p.Handle = session.Handle()
	}
	var b bytes.Buffer
	if err := pageTemplates.ExecuteTemplate(&b, name, p); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if p.Status != 0 {
		w.WriteHeader(p.Status)
	}
	_, _ = w.Write(b.Bytes()) // the browser is gone
}

func euro(cents int) string { return fmt.Sprintf("€%d.%02d", cents/100, cents%100) }

func ago(t time.Time) string {
	if d := time.Since(t).Round(time.Minute); d >= time.Minute {
		return fmt.Sprintf("%s ago", d)
	}
	return "just now"
}
