package echostore_test

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"

	"github.com/alicebob/miniredis/v2"
	"github.com/labstack/echo-contrib/v5/session"
	"github.com/labstack/echo/v5"

	"github.com/sessionring/sessionring"
	echostore "github.com/sessionring/sessionring/adapters/echo"
)

func Example() {
	savePath := startServers() // "tcp://10.0.0.1:6379, tcp://10.0.0.2:6379, …"

	client, err := sessionring.Open(savePath)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	store := echostore.New(client, []byte("a secret of 32 bytes, or of 64.."))

	e := echo.New()
	e.Use(session.Middleware(store), echostore.Require("shop"))
	e.GET("/", func(c *echo.Context) error {
		s, err := session.Get("shop", c)
		if s == nil {
			return err
		}
		n, _ := s.Values["visits"].(int)
		s.Values["visits"] = n + 1
		if err := s.Save(c.Request(), c.Response()); err != nil {
			return err
		}
		return c.String(http.StatusOK, fmt.Sprintln("visit", n+1))
	})
	visit(e, "/", "/")
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
