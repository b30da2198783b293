package gorillastore_test

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"

	"github.com/alicebob/miniredis/v2"

	"github.com/sessionring/sessionring"
	gorillastore "github.com/sessionring/sessionring/adapters/gorilla"
)

func Example() {
	savePath := startServers() // "tcp://10.0.0.1:6379, tcp://10.0.0.2:6379, …"

	client, err := sessionring.Open(savePath)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	store := gorillastore.New(client, []byte("a secret of 32 bytes, or of 64.."))

	visit(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session, err := store.Get(r, "shop")
		if err != nil {
			http.Error(w, "sessions are away", http.StatusServiceUnavailable)
			return
		}
		n, _ := session.Values["visits"].(int)
		session.Values["visits"] = n + 1
		if err := session.Save(r, w); err != nil {
			http.Error(w, "session not saved", http.StatusInternalServerError)
			return
		}
		fmt.Fprintln(w, "visit", n+1)
	}), "/", "/")
	// Output:
	// visit 1
	// visit 2
}

// After a login the session goes on under another id.
func ExampleStore_Regenerate() {
	savePath := startServers() // "tcp://10.0.0.1:6379, tcp://10.0.0.2:6379, …"

	client, err := sessionring.Open(savePath)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	store := gorillastore.New(client, []byte("a secret of 32 bytes, or of 64.."))

	mux := http.NewServeMux()
	mux.HandleFunc("/login", func(w http.ResponseWriter, r *http.Request) {
		session, err := store.Get(r, "shop")
		if err != nil {
			http.Error(w, "sessions are away", http.StatusServiceUnavailable)
			return
		}
		session.Values["user"] = "ann"
		if err := store.Regenerate(r, w, session); err != nil {
			http.Error(w, "not logged in", http.StatusInternalServerError)
			return
		}
		fmt.Fprintln(w, "welcome")
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		session, _ := store.Get(r, "shop")
		fmt.Fprintln(w, "user:", session.Values["user"])
	})
	visit(mux, "/login", "/")
	// Output:
	// welcome
	// user: ann
}

// startServers starts two servers in this process, for the examples run everywhere.
func startServers() string {
	path := ""
	for range 2 {
		s, err := miniredis.Run()
		if err != nil {
			log.Fatal(err)
		}
		path += " tcp://" + s.Addr()
	}
	return path
}

// visit asks for pages as a browser does.
func visit(h http.Handler, pages ...string) {
	server := httptest.NewServer(h)
	defer server.Close()
	jar, _ := cookiejar.New(nil)
	browser := &http.Client{Jar: jar}
	for _, page := range pages {
		res, err := browser.Get(server.URL + page)
		if err != nil {
			log.Fatal(err)
		}
		text, _ := io.ReadAll(res.Body)
		res.Body.Close()
		fmt.Print(string(text))
	}
}
