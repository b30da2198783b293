package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	fiberredis "github.com/gofiber/storage/redis/v3"
	redigo "github.com/gomodule/redigo/redis"
	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"

	"github.com/sessionring/sessionring"
)

// connections bounds the pool of each peer that has one: enough that nobody waits at the usual 64 goroutines.
const connections = 64

// A peer is one row.
type peer struct {
	name string
	// reads says how it prolongs, where peers differ in that: it is added to the name in the tables of reads.
	reads string
	// several: it spreads sessions over servers. The others are measured with one server only.
	several bool
	// copies that it needs servers for.
	copies int
	// only is the one operation it is measured in; 0 is both.
	only operation
	open opener
}

// row is the peer's name in a table.
func (p peer) row(op operation) string {
	if op == read && p.reads != "" {
		return p.name + ", " + p.reads
	}
	return p.name
}

// does says whether a peer is measured in an operation.
func (p peer) does(op operation) bool { return p.only == 0 || p.only == op }

// An opener connects to servers, given as host:port.
type opener func(ctx context.Context, addrs []string) (opened, error)

// opened makes workers until it is closed.
type opened struct {
	worker func() worker
	close  func() error
}

const (
	reference  = "go-redis"
	again      = "go-redis again"
	lever      = "go-redis, GETEX" // the quickest way to read and prolong that it has
	scsName    = "scs, goredisstore"
	clientOne  = "sessionring Client, copies=1"
	clientTwo  = "sessionring Client, copies=2"
	websiteOne = "sessionring websession, copies=1"
	websiteTwo = "sessionring websession, copies=2"
)

// deadline of one operation of ours, in the tables of peers: none should meet it.
const deadline = 10 * time.Second

func peers() []peer {
	const twoCommands, one = "GET and EXPIRE", "GETEX"
	return []peer{
		{reference, twoCommands, true, 1, 0, openGoRedis("a:", expire)},
		{again, twoCommands, true, 1, 0, openGoRedis("b:", expire)},
		{lever, "", true, 1, read, openGoRedis("c:", getex)},
		{"go-redis Ring", one, true, 1, 0, openGoRedisRing},
		{"rueidis", one, false, 1, 0, openRueidis},
		{"redigo", one, false, 1, 0, openRedigo},
		{scsName, "", false, 1, 0, openSCS},
		{"gorilla, boj/redistore", "", false, 1, 0, openGorilla},
		{"gin-contrib/sessions, redis", "", false, 1, 0, openGin},
		{"fiber storage/redis (storage only)", "", false, 1, 0, openFiber},
		{clientOne, "", true, 1, 0, openClient(1, deadline)},
		{clientTwo, "", true, 2, 0, openClient(2, deadline)},
		{websiteOne, "", true, 1, 0, openWebsession(1)},
		{websiteTwo, "", true, 2, 0, openWebsession(2)},
	}
}

// store is a worker over a client that knows keys and values.
type store struct {
	get, prolong func(ctx context.Context, id string) ([]byte, error)
	set          func(ctx context.Context, id string, data []byte) error
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
	data, err := s.prolong(ctx, id)
	if err != nil {
		return err
	}
	return check(v, data)
}

// prolonging is how go-redis loads and prolongs.
type prolonging func(ctx context.Context, c redis.Cmdable, key string) ([]byte, error)

// getex is one command, known since Redis 6.2.
func getex(ctx context.Context, c redis.Cmdable, key string) ([]byte, error) {
	return c.GetEx(ctx, key, lifetime).Bytes()
}

// expire is two commands, one after the other, as sites do that do not know GETEX, or whose Redis does not.
func expire(ctx context.Context, c redis.Cmdable, key string) ([]byte, error) {
	data, err := c.Get(ctx, key).Bytes()
	if err != nil {
		return nil, err
	}
	there, err := c.Expire(ctx, key, lifetime).Result()
	if err == nil && !there {
		err = redis.Nil
	}
	return data, err
}

// commands are the store of go-redis: GET and SET EX, or what prolongs.
func commands(prefix string, p prolonging, at func(id string) redis.Cmdable) *store {
	return &store{
		get:     func(ctx context.Context, id string) ([]byte, error) { return at(id).Get(ctx, prefix+id).Bytes() },
		prolong: func(ctx context.Context, id string) ([]byte, error) { return p(ctx, at(id), prefix+id) },
		set: func(ctx context.Context, id string, data []byte) error {
			return at(id).Set(ctx, prefix+id, data, lifetime).Err()
		},
	}
}

// openGoRedis is a Client a server. Over several, the id modulo their number chooses. change may set more options.
func openGoRedis(prefix string, p prolonging, change ...func(*redis.Options)) opener {
	return func(_ context.Context, addrs []string) (opened, error) {
		var clients []*redis.Client
		for _, addr := range addrs {
			o := &redis.Options{Addr: addr, PoolSize: connections}
			for _, f := range change {
				f(o)
			}
			clients = append(clients, redis.NewClient(o))
		}
		at := func(id string) redis.Cmdable { return clients[(int(id[0])+int(id[1])+int(id[2]))%len(clients)] }
		return stores(commands(prefix, p, at), func() (err error) {
			for _, c := range clients {
				err = errors.Join(err, c.Close())
			}
			return err
		})
	}
}

func openGoRedisRing(_ context.Context, addrs []string) (opened, error) {
	shards := map[string]string{}
	for i, addr := range addrs {
		shards[fmt.Sprint("shard", i)] = addr
	}
	ring := redis.NewRing(&redis.RingOptions{Addrs: shards, PoolSize: connections})
	return stores(commands("ring:", getex, func(string) redis.Cmdable { return ring }), ring.Close)
}

func openRueidis(_ context.Context, addrs []string) (opened, error) {
	c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{addrs[0]}, DisableCache: true})
	if err != nil {
		return opened{}, err
	}
	return stores(&store{
		get: func(ctx context.Context, id string) ([]byte, error) {
			return c.Do(ctx, c.B().Get().Key("rueidis:"+id).Build()).AsBytes()
		},
		prolong: func(ctx context.Context, id string) ([]byte, error) {
			return c.Do(ctx, c.B().Getex().Key("rueidis:"+id).Ex(lifetime).Build()).AsBytes()
		},
		set: func(ctx context.Context, id string, data []byte) error {
			return c.Do(ctx, c.B().Set().Key("rueidis:"+id).Value(rueidis.BinaryString(data)).Ex(lifetime).Build()).Error()
		},
	}, func() error { c.Close(); return nil })
}

func openRedigo(_ context.Context, addrs []string) (opened, error) {
	pool := &redigo.Pool{MaxIdle: connections, MaxActive: connections, Wait: true, DialContext: func(ctx context.Context) (redigo.Conn, error) {
		return redigo.DialContext(ctx, "tcp", addrs[0])
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
		prolong: func(ctx context.Context, id string) ([]byte, error) {
			return redigo.Bytes(do(ctx, "GETEX", "redigo:"+id, "EX", seconds))
		},
		set: func(ctx context.Context, id string, data []byte) error {
			_, err := do(ctx, "SET", "redigo:"+id, data, "EX", seconds)
			return err
		},
	}, pool.Close)
}

// openFiber is fiber's storage without its session middleware. It cannot prolong but by writing again.
func openFiber(_ context.Context, addrs []string) (opened, error) {
	host, port, err := net.SplitHostPort(addrs[0])
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
	return stores(&store{get: get, set: set, prolong: func(ctx context.Context, id string) ([]byte, error) {
		data, err := get(ctx, id)
		if err != nil {
			return nil, err
		}
		return data, set(ctx, id, data)
	}}, s.Close)
}

func newClient(addrs []string, copies int, prefix string, deadline time.Duration) (*sessionring.Client, error) {
	entries := make([]string, len(addrs))
	for i, addr := range addrs {
		entries[i] = fmt.Sprintf("tcp://%s?prefix=%s%d:", addr, prefix, copies)
	}
	return sessionring.Open(strings.Join(entries, ","),
		sessionring.WithCopies(copies), sessionring.WithLifetime(lifetime), sessionring.WithDeadline(deadline))
}

func openClient(copies int, deadline time.Duration) opener {
	return func(_ context.Context, addrs []string) (opened, error) {
		c, err := newClient(addrs, copies, "client", deadline)
		if err != nil {
			return opened{}, err
		}
		return stores(&store{
			get: c.Get,
			prolong: func(ctx context.Context, id string) ([]byte, error) {
				item, err := c.Load(ctx, id, sessionring.GetOptions{Touch: true})
				return item.Data, err
			},
			set: c.Set,
		}, c.Close)
	}
}
