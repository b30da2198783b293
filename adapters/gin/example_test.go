package ginstore_test

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"

	"github.com/alicebob/miniredis/v2"
	"github.com/gin-contrib/sessions"
	"github.com/gin-gonic/gin"

	"github.com/sessionring/sessionring"
	ginstore "github.com/sessionring/sessionring/adapters/gin"
)

func Example() {
	savePath := startServers() // "tcp://10.0.0.1:6379, tcp://10.0.0.2:6379, …"

	client, err := sessionring.Open(savePath)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	store := ginstore.New(client, []byte("a secret of 32 bytes, or of 64.."))

	router := gin.New()
	router.Use(sessions.Sessions("shop", store), store.Require("shop"))
	router.GET("/", func(c *gin.Context) {
		session := sessions.Default(c)
		n, _ := session.Get("visits").(int)
		session.Set("visits", n+1)
		if err := session.Save(); err != nil {
			c.String(http.StatusInternalServerError, "session not saved\n")
			return
		}
		c.String(http.StatusOK, "visit %d\n", n+1)
	})
	visit(router, "/", "/")
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
