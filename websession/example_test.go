package websession_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/sessionring/sessionring"
	"github.com/sessionring/sessionring/phpsession"
	"github.com/sessionring/sessionring/websession"
)

func Example() {
	client, err := sessionring.Open("tcp://host1:6379, tcp://host2:6379, tcp://host3:6379")
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	sessions, err := websession.New(client, websession.Options{})
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", visits)
	log.Fatal(http.ListenAndServe(":8080", sessions.Wrap(mux)))
}

func visits(w http.ResponseWriter, r *http.Request) {
	s := websession.Get(r)
	n, err := websession.Value[int](s, "visits")
	if err != nil {
		return // the client gets a 503 with Retry-After, whatever is written here
	}
	if err := websession.Put(s, "visits", n+1); err != nil {
		return
	}
	fmt.Fprintf(w, "visit %d", n+1)
}

type Cart struct {
	Items []string `json:"items"`
}

func addToCart(w http.ResponseWriter, r *http.Request) {
	s := websession.Get(r)
	cart, err := websession.Value[Cart](s, "cart") // a copy
	if err != nil {
		return
	}
	cart.Items = append(cart.Items, r.FormValue("item"))
	if err := websession.Put(s, "cart", cart); err != nil {
		return
	}
	_ = s.AddFlash("success", "Added to your cart.")
	http.Redirect(w, r, "/cart", http.StatusSeeOther)
}

func showCart(w http.ResponseWriter, r *http.Request) {
	s := websession.Get(r)
	messages, err := s.Flashes() // each is shown once
	if err != nil {
		return
	}
	cart, found, err := websession.Lookup[Cart](s, "cart")
	if err != nil {
		return
	}
	fmt.Fprintln(w, messages, found, cart.Items)
}

func login(w http.ResponseWriter, r *http.Request) {
	user, ok := authenticate(r)
	if !ok {
		http.Error(w, "wrong name or password", http.StatusForbidden)
		return
	}
	s := websession.Get(r)
	if err := errors.Join(
		s.Regenerate(r.Context()), // an id that others may know is worth nothing from here on
		s.SetUser(user),           // for "my devices" and "log out everywhere"
	); err != nil {
		return
	}
	fmt.Fprintf(w, "hello %s", user)
}

func logout(w http.ResponseWriter, r *http.Request) {
	if err := websession.Get(r).Destroy(r.Context()); err != nil {
		return // still logged in, and the 503 says so
	}
	fmt.Fprint(w, "bye")
}

// account has what an application's account page needs.
type account struct{ sessions *websession.Manager }

func (a account) devices(w http.ResponseWriter, r *http.Request) {
	s := websession.Get(r)
	user, err := s.User()
	if err != nil {
		return
	}
	list, err := a.sessions.SessionsOf(r.Context(), user)
	if err != nil {
		http.Error(w, "not available at the moment", http.StatusServiceUnavailable)
		return
	}
	for _, d := range list {
		fmt.Fprintln(w, d.Handle == s.Handle(), d.Label, d.LastSeen.Format(time.DateOnly))
	}
}

func (a account) changePassword(w http.ResponseWriter, r *http.Request) {
	s := websession.Get(r)
	if err := s.Regenerate(r.Context()); err != nil {
		return
	}
	n, err := s.DestroyOthers(r.Context()) // every other device has to log in again
	if err != nil {
		http.Error(w, "not available at the moment", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintf(w, "%d other sessions ended", n)
}

func authenticate(r *http.Request) (user string, ok bool) {
	user, password, ok := r.BasicAuth()
	return user, ok && password == "secret"
}

// A name with the prefix __Host- is the safest cookie where all of the site is on HTTPS.
func ExampleOptions() {
	client, err := sessionring.Open(os.Getenv("SESSIONRING_SAVE_PATH"))
	if err != nil {
		log.Fatal(err)
	}
	sessions, err := websession.New(client, websession.Options{
		Cookie:          websession.Cookie{Name: "__Host-session", Persistent: true},
		IdleTimeout:     7 * 24 * time.Hour,
		AbsoluteTimeout: 30 * 24 * time.Hour,
		Unavailable:     websession.ReadOnlyEmpty, // visitors see the shop even when Redis is away
		Logger:          slog.Default(),
		Hooks: websession.Hooks{Operation: func(op websession.Operation) {
			// count op.Name and op.Outcome, observe op.Duration
		}},
	})
	if err != nil {
		log.Fatal(err)
	}
	_ = sessions
}

// The sessions of a PHP application, in PHP's layout.
func ExamplePHP() {
	client, err := sessionring.Open("tcp://host1:6379, tcp://host2:6379",
		sessionring.WithDistribution(sessionring.PHPRedis), sessionring.WithLenient())
	if err != nil {
		log.Fatal(err)
	}
	sessions, err := websession.New(client, websession.Options{Codec: websession.PHP(phpsession.PHP)})
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("/", sessions.Wrap(http.HandlerFunc(visits)))
}

// The lock lets requests of one session run one after another; handlers that only read do not wait.
func ExampleManager_ReadOnly() {
	client, err := sessionring.Open("tcp://host1:6379, tcp://host2:6379")
	if err != nil {
		log.Fatal(err)
	}
	sessions, err := websession.New(client, websession.Options{Lock: websession.LockRequests})
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("POST /cart", sessions.Wrap(http.HandlerFunc(addToCart)))
	mux.Handle("GET /cart.json", sessions.ReadOnly(http.HandlerFunc(cartAsJSON)))
	log.Fatal(http.ListenAndServe(":8080", mux))
}

func cartAsJSON(w http.ResponseWriter, r *http.Request) {
	cart, err := websession.Value[Cart](websession.Get(r), "cart")
	if err != nil {
		return
	}
	fmt.Fprint(w, len(cart.Items))
}

// Counters that parallel requests add to, without a lock.
func ExampleOptions_merge() {
	client, err := sessionring.Open("tcp://host1:6379, tcp://host2:6379")
	if err != nil {
		log.Fatal(err)
	}
	sessions, err := websession.New(client, websession.Options{Merge: addUp})
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("/", sessions.Wrap(http.HandlerFunc(visits)))
}

func addUp(base, mine, theirs *websession.Session) error {
	before, errBase := websession.Value[int](base, "visits")
	after, errMine := websession.Value[int](mine, "visits")
	n, errTheirs := websession.Value[int](theirs, "visits")
	return errors.Join(errBase, errMine, errTheirs,
		websession.MergeKeys(base, mine, theirs), // all else as usual
		websession.Put(theirs, "visits", n+after-before))
}

// A WebSocket: the session is saved before the connection is taken over, and by Save from then on.
func chat(w http.ResponseWriter, r *http.Request) {
	s := websession.Get(r)
	if err := websession.Put(s, "chatting", true); err != nil {
		return
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer conn.Close()
	rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
	rw.Flush()
	// …
	if err := websession.Put(s, "said", "hello"); err == nil {
		err = s.Save(context.Background())
		fmt.Fprintln(rw, err)
		rw.Flush()
	}
}
