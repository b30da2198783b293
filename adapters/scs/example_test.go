package scsstore_test

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"

	"github.com/alexedwards/scs/v2"
	"github.com/alicebob/miniredis/v2"

	"github.com/sessionring/sessionring"
	scsstore "github.com/sessionring/sessionring/adapters/scs"
)

func Example() {
	savePath := startServers() // "tcp://10.0.0.1:6379, tcp://10.0.0.2:6379, …"

	client, err := sessionring.Open(savePath)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	manager := scs.New()
	manager.Store = scsstore.New(client)

	mux := http.NewServeMux()
	mux.HandleFunc("/visit", func(w http.ResponseWriter, r *http.Request) {
		n := manager.GetInt(r.Context(), "visits") + 1
		manager.Put(r.Context(), "visits", n)
		fmt.Fprintln(w, "visit", n)
	})
	visit(manager.LoadAndSave(mux), 2)
	// Output:
	// visit 1
	// visit 2
}

// With locking=1 in the save_path, requests of one session run one after another.
func ExampleStore_Requests() {
	savePath := startServers() // "tcp://10.0.0.1:6379, tcp://10.0.0.2:6379, …"

	client, err := sessionring.Open(savePath, sessionring.WithLocking(true))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	manager := scs.New()
	store := scsstore.New(client)
	manager.Store = store

	mux := http.NewServeMux()
	mux.HandleFunc("/visit", func(w http.ResponseWriter, r *http.Request) {
		n := manager.GetInt(r.Context(), "visits") + 1
		manager.Put(r.Context(), "visits", n)
		fmt.Fprintln(w, "visit", n)
	})
	visit(store.Requests(manager.LoadAndSave(mux)), 2)
	// Output:
	// visit 1
	// visit 2
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

// visit asks a handler for a page as a browser does.
func visit(h http.Handler, times int) {
	server := httptest.NewServer(h)
	defer server.Close()
	jar, _ := cookiejar.New(nil)
	browser := &http.Client{Jar: jar}
	for range times {
		res, err := browser.Get(server.URL + "/visit")
		if err != nil {
			log.Fatal(err)
		}
		page, _ := io.ReadAll(res.Body)
		res.Body.Close()
		fmt.Print(string(page))
	}
}
