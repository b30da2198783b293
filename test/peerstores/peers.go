package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"

	"github.com/alexedwards/scs/goredisstore"
	scsredis "github.com/alexedwards/scs/redisstore"
	"github.com/boj/redistore"
	ginredis "github.com/gin-contrib/sessions/redis"
	fiberredis "github.com/gofiber/storage/redis/v3"
	redigo "github.com/gomodule/redigo/redis"
	"github.com/gorilla/sessions"
	rbc "github.com/rbcervilla/redisstore/v9"
	"github.com/redis/go-redis/v9"

	"github.com/sessionring/sessionring"
	fiberstore "github.com/sessionring/sessionring/adapters/fiber"
	ginstore "github.com/sessionring/sessionring/adapters/gin"
	gorillastore "github.com/sessionring/sessionring/adapters/gorilla"
	scsstore "github.com/sessionring/sessionring/adapters/scs"
	"github.com/sessionring/sessionring/internal/contract"
	"github.com/sessionring/sessionring/sessiontest"
)

var key = []byte("0123456789abcdef0123456789abcdef")

// nodesOfOurs are three servers, two of which hold each session.
const nodesOfOurs = 3

func peers() []peer {
	return []peer{
		{"scs, goredisstore", 1, scsGoRedis},
		{"scs, redisstore", 1, scsRedigo},
		{"scs, sessionring", nodesOfOurs, ours("locking=1", func(c *sessionring.Client) (*sessiontest.Store, error) {
			s := scsstore.New(c)
			return newSCS(s, s.Requests).store(), nil
		})},
		{"gorilla, boj/redistore", 1, gorillaBoj},
		{"gorilla, rbcervilla/redisstore", 1, gorillaRbcervilla},
		{"the same on go-redis Ring", nodesOfOurs, gorillaRing},
		{"gorilla, sessionring", nodesOfOurs, ours("", func(c *sessionring.Client) (*sessiontest.Store, error) {
			s := gorillastore.New(c, key)
			s.RefuseConflicts = true
			g := &gorillaSite{sessions: s, codecs: s.Codecs}
			store := g.store()
			store.Regenerate = g.regenerate(s.Regenerate)
			return store, nil
		})},
		{"gin, redis", 1, ginRedis},
		{"gin, sessionring", nodesOfOurs, ours("", func(c *sessionring.Client) (*sessiontest.Store, error) {
			s := ginstore.New(c, key)
			s.RefuseConflicts = true
			g := newGin(s, s.Codecs)
			store := g.store()
			store.Regenerate = g.regenerate(s.Regenerate)
			return store, nil
		})},
		{"fiber, storage/redis", 1, fiberRedis},
		{"fiber, sessionring", nodesOfOurs, ours("", func(c *sessionring.Client) (*sessiontest.Store, error) {
			return newFiber(fiberstore.New(c, fiberstore.Options{RefuseConflicts: true})).store(), nil
		})},
	}
}

// ours opens a Client and a store over it.
func ours(params string, make func(*sessionring.Client) (*sessiontest.Store, error)) func(context.Context, *contract.Nodes) (*sessiontest.Store, func() error, error) {
	return func(ctx context.Context, n *contract.Nodes) (*sessiontest.Store, func() error, error) {
		c, err := sessionring.Open(n.SavePath("copies=2", params))
		if err != nil {
			return nil, nil, err
		}
		if err := contract.Healthy(ctx, c); err != nil {
			return nil, nil, err
		}
		s, err := make(c)
		if err != nil {
			return nil, nil, err
		}
		return n.Complete(s, c), c.Close, nil
	}
}

// theirs adds what any store can be shown with: servers that break, and keys of others beside it.
func theirs(n *contract.Nodes, s *sessiontest.Store, err error, closer func() error) (*sessiontest.Store, func() error, error) {
	if err != nil {
		return nil, nil, err
	}
	s.Faults, s.Foreign = n.Faults(nil), n.Foreign()
	return s, closer, nil
}

func scsGoRedis(_ context.Context, n *contract.Nodes) (*sessiontest.Store, func() error, error) {
	client := redis.NewClient(&redis.Options{Addr: n.Servers[0].Addr()})
	return theirs(n, newSCS(goredisstore.New(client), nil).store(), nil, client.Close)
}

func scsRedigo(_ context.Context, n *contract.Nodes) (*sessiontest.Store, func() error, error) {
	pool := &redigo.Pool{MaxIdle: 10, Dial: func() (redigo.Conn, error) { return redigo.Dial("tcp", n.Servers[0].Addr()) }}
	return theirs(n, newSCS(scsredis.New(pool), nil).store(), nil, pool.Close)
}

func gorillaBoj(_ context.Context, n *contract.Nodes) (*sessiontest.Store, func() error, error) {
	s, err := redistore.NewRediStore(10, "tcp", n.Servers[0].Addr(), "", "", key)
	if err != nil {
		return nil, nil, err
	}
	return theirs(n, (&gorillaSite{sessions: s, codecs: s.Codecs}).store(), nil, s.Close)
}

func gorillaRbcervilla(ctx context.Context, n *contract.Nodes) (*sessiontest.Store, func() error, error) {
	return rbcervilla(ctx, n, redis.NewClient(&redis.Options{Addr: n.Servers[0].Addr()}))
}

func gorillaRing(ctx context.Context, n *contract.Nodes) (*sessiontest.Store, func() error, error) {
	addrs := map[string]string{}
	for i, s := range n.Servers {
		addrs[fmt.Sprint("shard", i)] = s.Addr()
	}
	return rbcervilla(ctx, n, redis.NewRing(&redis.RingOptions{Addrs: addrs}))
}

func rbcervilla(ctx context.Context, n *contract.Nodes, client redis.UniversalClient) (*sessiontest.Store, func() error, error) {
	s, err := rbc.NewRedisStore(ctx, client)
	if err != nil {
		return nil, nil, err
	}
	s.Options(sessions.Options{Path: "/", MaxAge: 3600})
	return theirs(n, (&gorillaSite{sessions: s}).store(), nil, client.Close)
}

func ginRedis(_ context.Context, n *contract.Nodes) (*sessiontest.Store, func() error, error) {
	s, err := ginredis.NewStore(10, "tcp", n.Servers[0].Addr(), "", "", key)
	if err != nil {
		return nil, nil, err
	}
	under, err := ginredis.GetRedisStore(s)
	if err != nil {
		return nil, nil, err
	}
	return theirs(n, newGin(s, under.Codecs).store(), nil, under.Close)
}

func fiberRedis(_ context.Context, n *contract.Nodes) (*sessiontest.Store, func() error, error) {
	host, port, err := net.SplitHostPort(n.Servers[0].Addr())
	if err != nil {
		return nil, nil, err
	}
	p, err := strconv.Atoi(port)
	if err != nil {
		return nil, nil, err
	}
	s := fiberredis.New(fiberredis.Config{Host: host, Port: p})
	return theirs(n, newFiber(s).store(), nil, s.Close)
}

// respond serves one request in memory.
func respond(h http.Handler, r *http.Request) *http.Response {
	w := &memory{header: http.Header{}, status: http.StatusOK}
	h.ServeHTTP(w, r)
	return &http.Response{StatusCode: w.status, Header: w.header}
}

// memory is a ResponseWriter that keeps the header alone.
type memory struct {
	header http.Header
	status int
}

func (m *memory) Header() http.Header         { return m.header }
func (m *memory) Write(b []byte) (int, error) { return len(b), nil }
func (m *memory) WriteHeader(status int)      { m.status = status }
