// Shop is a small web shop whose visitors' sessions live on several Redis nodes: a catalogue, a cart, a login,
// "my devices" and "log out everywhere". It uses the public packages alone and shows how an application is put
// together around websession.
//
//	go run ./examples/shop -save-path "tcp://127.0.0.1:6379, tcp://127.0.0.1:6380, tcp://127.0.0.1:6381"
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/sessionring/sessionring"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "shop:", err)
		os.Exit(1)
	}
}

// run serves the shop until ctx ends. The address goes to stdout.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	flags := flag.NewFlagSet("shop", flag.ContinueOnError)
	flags.SetOutput(stderr)
	savePath := flags.String("save-path", os.Getenv("SESSIONRING_SAVE_PATH"), "the nodes, as phpredis's session.save_path (default $SESSIONRING_SAVE_PATH)")
	addr := flags.String("addr", "127.0.0.1:8080", "where to serve")
	var set settings
	flags.Var(&set.Parallel, "parallel", "requests of one session at once: `merge`, lock, or last (the last writer of the cart wins)")
	flags.DurationVar(&set.StockCheck, "stock-check", 0, "how long the shop asks its warehouse before something goes into a cart")
	flags.DurationVar(&set.Grace, "grace", 0, "how long the id from before a login still works (default websession's)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	client, err := sessionring.Open(*savePath, sessionring.WithLogger(log))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	set.Logger = log
	handler, err := newShop(client, set)
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", *addr)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(stdout, "http://%s/\n", listener.Addr())

	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	stopping, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err = server.Shutdown(stopping)
	<-failed
	return err
}
