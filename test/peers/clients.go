package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	fiberredis "github.com/gofiber/storage/redis/v3"
	redigo "github.com/gomodule/redigo/redis"
	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"

	"github.com/sessionring/sessionring"
	"github.com/sessionring/sessionring/internal/redistest"
)

// connections bounds the pool of each peer that has one: enough that nobody waits at the usual 64 goroutines.
const connections = 64

// A peer is one row.
type peer struct {
	name string
	// several: it spreads sessions over servers. The others are measured with one server only.
	several bool
	// copies that it needs servers for.
	copies int
	open   func(ctx context.Context, servers []*redistest.Server) (opened, error)
}

// opened makes workers until it is closed.
type opened struct {
	worker func() worker
	close  func() error
}

const (
	reference = "go-redis"
	again     = "go-redis again"
)

func peers() []peer {
	return []peer{
		{reference, true, 1, goRedis("a:")},
		{again, true, 1, goRedis("b:")},
		{"go-redis Ring", true, 1, goRedisRing},
		{"rueidis", false, 1, openRueidis},
		{"redigo", false, 1, openRedigo},
		{"scs, goredisstore", false, 1, openSCS},
		{"gorilla, boj/redistore", false, 1, openGorilla},
		{"gin-contrib/sessions, redis", false, 1, openGin},
		{"fiber storage/redis (storage only)", false, 1, openFiber},
		{"sessionring Client, copies=1", true, 1, openClient(1)},
		{"sessionring Client, copies=2", true, 2, openClient(2)},
		{"sessionring websession, copies=1", true, 1, openWebsession(1)},
		{"sessionring websession, copies=2", true, 2, openWebsession(2)},
	}
}

// store is a worker over a client that knows keys and values.
type store struct {
	get, getex func(ctx context.Context, id string) ([]byte, error)
	set        func(ctx context.Context, id string, data []byte) error
}

// stores makes opened of a store that all goroutines may use.
func stores(s *store, closer func() error) (opened, error) {
	return opened{worker: func() worker { return s }, close: closer}, nil
}

func (s *store) start(ctx context.Context, id string, v *visit) (string, error) {
	return id, s.set(ctx, id, v.bytes())
}

func (s *store) cycle(ctx context.Context, id string, v *visit) error {
	data, err := s.get(ctx, id)
	if err != nil {
		return err
	}
	if err := check(v, data); err != nil {
		return err
	}
	return s.set(ctx, id, v.bytes())
}

func (s *store) read(ctx context.Context, id string, v *visit) error {
	data, err := s.getex(ctx, id)
	if err != nil {
		return err
	}
	return check(v, data)
}

// commands are the store of go-redis: GET and SET EX, or GETEX, which is its cheapest way to prolong.
func commands(prefix string, at func(id string) redis.Cmdable) *store {
	return &store{
		get: func(ctx context.Context, id string) ([]byte, error) { return at(id).Get(ctx, prefix+id).Bytes() },
		getex: func(ctx context.Context, id string) ([]byte, error) {
			return at(id).GetEx(ctx, prefix+id, lifetime).Bytes()
		},
		set: func(ctx context.Context, id string, data []byte) error {
			return at(id).Set(ctx, prefix+id, data, lifetime).Err()
		},
	}
}

// goRedis is a Client a server. Over several, the id modulo their number chooses.
func goRedis(prefix string) func(context.Context, []*redistest.Server) (opened, error) {
	return func(_ context.Context, servers []*redistest.Server) (opened, error) {
		var clients []*redis.Client
		for _, s := range servers {
			clients = append(clients, redis.NewClient(&redis.Options{Addr: s.Addr(), PoolSize: connections}))
		}
		at := func(id string) redis.Cmdable { return clients[(int(id[0])+int(id[1])+int(id[2]))%len(clients)] }
		return stores(commands(prefix, at), func() (err error) {
			for _, c := range clients {
				err = errors.Join(err, c.Close())
			}
			return err
		})
	}
}

func goRedisRing(_ context.Context, servers []*redistest.Server) (opened, error) {
	addrs := map[string]string{}
	for i, s := range servers {
		addrs[fmt.Sprint("shard", i)] = s.Addr()
	}
	ring := redis.NewRing(&redis.RingOptions{Addrs: addrs, PoolSize: connections})
	return stores(commands("ring:", func(string) redis.Cmdable { return ring }), ring.Close)
}

func openRueidis(_ context.Context, servers []*redistest.Server) (opened, error) {
	c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{servers[0].Addr()}, DisableCache: true})
	if err != nil {
		return opened{}, err
	}
	return stores(&store{
		get: func(ctx context.Context, id string) ([]byte, error) {
			return c.Do(ctx, c.B().Get().Key("rueidis:"+id).Build()).AsBytes()
		},
		getex: func(ctx context.Context, id string) ([]byte, error) {
			return c.Do(ctx, c.B().Getex().Key("rueidis:"+id).Ex(lifetime).Build()).AsBytes()
		},
		set: func(ctx context.Context, id string, data []byte) error {
			return c.Do(ctx, c.B().Set().Key("rueidis:"+id).Value(rueidis.BinaryString(data)).Ex(lifetime).Build()).Error()
		},
	}, func() error { c.Close(); return nil })
}

func openRedigo(_ context.Context, servers []*redistest.Server) (opened, error) {
	pool := &redigo.Pool{MaxIdle: connections, MaxActive: connections, Wait: true, DialContext: func(ctx context.Context) (redigo.Conn, error) {
		return redigo.DialContext(ctx, "tcp", servers[0].Addr())
	}}
	do := func(ctx context.Context, command string, args ...any) (any, error) {
		c, err := pool.GetContext(ctx)
		if err != nil {
			return nil, err
		}
		reply, err := redigo.DoContext(c, ctx, command, args...)
		return reply, errors.Join(err, c.Close())
	}
	seconds := int(lifetime / time.Second)
	return stores(&store{
		get: func(ctx context.Context, id string) ([]byte, error) {
			return redigo.Bytes(do(ctx, "GET", "redigo:"+id))
		},
		getex: func(ctx context.Context, id string) ([]byte, error) {
			return redigo.Bytes(do(ctx, "GETEX", "redigo:"+id, "EX", seconds))
		},
		set: func(ctx context.Context, id string, data []byte) error {
			_, err := do(ctx, "SET", "redigo:"+id, data, "EX", seconds)
			return err
		},
	}, pool.Close)
}

// openFiber is fiber's storage without its session middleware. It cannot prolong but by writing again.
func openFiber(_ context.Context, servers []*redistest.Server) (opened, error) {
	host, port, err := net.SplitHostPort(servers[0].Addr())
	if err != nil {
		return opened{}, err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return opened{}, err
	}
	s := fiberredis.New(fiberredis.Config{Host: host, Port: number, PoolSize: connections})
	set := func(ctx context.Context, id string, data []byte) error {
		return s.SetWithContext(ctx, "fiber:"+id, data, lifetime)
	}
	get := func(ctx context.Context, id string) ([]byte, error) { return s.GetWithContext(ctx, "fiber:"+id) }
	return stores(&store{get: get, set: set, getex: func(ctx context.Context, id string) ([]byte, error) {
		data, err := get(ctx, id)
		if err != nil {
			return nil, err
		}
		return data, set(ctx, id, data)
	}}, s.Close)
}

func newClient(servers []*redistest.Server, copies int, prefix string) (*sessionring.Client, error) {
	return sessionring.Open(redistest.SavePath(servers, fmt.Sprintf("prefix=%s%d:", prefix, copies)),
		sessionring.WithCopies(copies), sessionring.WithLifetime(lifetime), sessionring.WithDeadline(10*time.Second))
}

func openClient(copies int) func(context.Context, []*redistest.Server) (opened, error) {
	return func(_ context.Context, servers []*redistest.Server) (opened, error) {
		c, err := newClient(servers, copies, "client")
		if err != nil {
			return opened{}, err
		}
		return stores(&store{
			get: c.Get,
			getex: func(ctx context.Context, id string) ([]byte, error) {
				item, err := c.Load(ctx, id, sessionring.GetOptions{Touch: true})
				return item.Data, err
			},
			set: c.Set,
		}, c.Close)
	}
}
