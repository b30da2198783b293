package fiberstore_test

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/alicebob/miniredis/v2"
	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/fiber/v3/middleware/session"

	"github.com/sessionring/sessionring"
	fiberstore "github.com/sessionring/sessionring/adapters/fiber"
)

func Example() {
	savePath := startServers() // "tcp://10.0.0.1:6379, tcp://10.0.0.2:6379, …"

	client, err := sessionring.Open(savePath)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	app := fiber.New()
	app.Use(session.New(session.Config{
		Storage: fiberstore.New(client),
		ErrorHandler: func(c fiber.Ctx, err error) {
			_ = c.Status(fiber.StatusServiceUnavailable).SendString("sessions are away")
		},
	}))
	app.Get("/", func(c fiber.Ctx) error {
		s := session.FromContext(c)
		n, _ := s.Get("visits").(int)
		s.Set("visits", n+1)
		return c.SendString(fmt.Sprintln("visit", n+1))
	})
	visit(app, 2)
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

// visit asks for the page as a browser does.
func visit(app *fiber.App, times int) {
	var cookies []*http.Cookie
	for range times {
		r := httptest.NewRequest("GET", "/", nil)
		for _, c := range cookies {
			r.AddCookie(c)
		}
		res, err := app.Test(r)
		if err != nil {
			log.Fatal(err)
		}
		if c := res.Cookies(); len(c) > 0 {
			cookies = c
		}
		page, _ := io.ReadAll(res.Body)
		res.Body.Close()
		fmt.Print(string(page))
	}
}
