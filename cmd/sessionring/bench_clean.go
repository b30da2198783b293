package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/sessionring/sessionring"
)

const (
	// benchPrefix begins the keys of every bench; a run's own part follows. It replaces the save_path's prefix,
	// so that a bench never meets an application's session.
	benchPrefix = "sessionring-bench:"

	benchScanCount = 1000
	benchCleanTime = 2 * time.Minute
	benchRawTime   = 5 * time.Second // of one command beside the load
)

// newBenchPrefix returns a prefix that no other run has, so that two of them clean up after themselves alone.
func newBenchPrefix() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	return benchPrefix + hex.EncodeToString(b[:]) + ":"
}

// eachServer calls f with a connection to each server behind a save_path, beside any Client: for nodes each of
// them, for a cluster each primary, for Sentinels the primary. One that fails does not keep f from the others;
// the errors come joined.
func eachServer(ctx context.Context, sp *sessionring.SavePath, f func(ctx context.Context, name string, rdb *redis.Client) error) error {
	first := sp.Nodes[0]
	var addrs []string
	for _, n := range sp.Nodes {
		addrs = append(addrs, n.Address)
	}
	o, err := rawOptions(first)
	if err != nil {
		return err
	}
	switch sp.Kind {
	case sessionring.KindCluster:
		c := redis.NewClusterClient(&redis.ClusterOptions{
			Addrs: addrs, Username: o.Username, Password: o.Password, TLSConfig: o.TLSConfig, Protocol: 2,
			DisableIdentity: true, ContextTimeoutEnabled: true, DialTimeout: o.DialTimeout, ReadTimeout: o.ReadTimeout,
			MaintNotificationsConfig: o.MaintNotificationsConfig,
		})
		defer func() { _ = c.Close() }()
		return c.ForEachMaster(ctx, func(ctx context.Context, rdb *redis.Client) error {
			return f(ctx, rdb.Options().Addr, rdb)
		})
	case sessionring.KindSentinel:
		s := &redis.FailoverOptions{
			MasterName: sp.MasterName, SentinelAddrs: addrs, Username: o.Username, Password: o.Password, DB: o.DB,
			TLSConfig: o.TLSConfig, Protocol: 2, DisableIdentity: true, ContextTimeoutEnabled: true,
			DialTimeout: o.DialTimeout, ReadTimeout: o.ReadTimeout,
		}
		s.SentinelUsername, s.SentinelPassword = rawLogin(sp.SentinelAuth)
		c := redis.NewFailoverClient(s)
		defer func() { _ = c.Close() }()
		return f(ctx, sp.MasterName, c)
	}
	var errs []error
	seen := map[string]bool{}
	for _, n := range sp.Nodes {
		if seen[n.ID()] {
			continue
		}
		seen[n.ID()] = true
		o, err := rawOptions(n)
		if err == nil {
			rdb := redis.NewClient(o)
			err = f(ctx, n.ID(), rdb)
			_ = rdb.Close()
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", n.ID(), err))
		}
	}
	return errors.Join(errs...)
}

func rawOptions(n sessionring.Node) (*redis.Options, error) {
	o := &redis.Options{
		Network: n.Network, Addr: n.Address, DB: max(n.Database, 0), Protocol: 2, DisableIdentity: true,
		MaxRetries: -1, DialerRetries: 1, ContextTimeoutEnabled: true,
		DialTimeout: n.Timeout, ReadTimeout: benchRawTime, WriteTimeout: benchRawTime,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	o.Username, o.Password = rawLogin(n.Auth)
	var err error
	o.TLSConfig, err = n.TLSConfig()
	return o, err
}

func rawLogin(a sessionring.Auth) (user, password string) {
	if a.Password.IsZero() {
		return "", ""
	}
	if a.HasUser {
		user = a.Username
	}
	return user, a.Password.Reveal()
}

// benchClean removes every key that holds the prefix anywhere: sessions, and what stands beside them. It looks
// for them by SCAN and removes them by UNLINK, a bounded batch at a time. It returns how many there were.
func benchClean(ctx context.Context, sp *sessionring.SavePath, prefix string) (int64, error) {
	if !strings.HasPrefix(prefix, benchPrefix) {
		return 0, fmt.Errorf("%q is no prefix of a bench: nothing was removed", prefix)
	}
	ctx, cancel := context.WithTimeout(ctx, benchCleanTime)
	defer cancel()
	var removed atomic.Int64 // a cluster's primaries are asked at the same time
	err := eachServer(ctx, sp, func(ctx context.Context, _ string, rdb *redis.Client) error {
		for cursor := uint64(0); ; {
			keys, next, err := rdb.Scan(ctx, cursor, "*"+prefix+"*", benchScanCount).Result()
			if err != nil {
				return err
			}
			if len(keys) > 0 {
				n, err := unlink(ctx, rdb, keys)
				removed.Add(n)
				if err != nil {
					return err
				}
			}
			if cursor = next; cursor == 0 {
				return nil
			}
		}
	})
	return removed.Load(), err
}

// unlink removes keys one by one in one pipeline: in a cluster they are in different slots.
func unlink(ctx context.Context, rdb *redis.Client, keys []string) (int64, error) {
	pipe := rdb.Pipeline()
	for _, k := range keys {
		pipe.Unlink(ctx, k)
	}
	cmds, err := pipe.Exec(ctx)
	n := int64(0)
	for _, c := range cmds {
		if x, ok := c.(*redis.IntCmd); ok && x.Err() == nil {
			n += x.Val()
		}
	}
	return n, err
}

// benchCounters are a server's own counts, to be compared before and after.
type benchCounters struct {
	runID    string
	commands int64
}

// benchCommands asks each server how many commands it has carried out; those that do not answer are left out.
func benchCommands(ctx context.Context, sp *sessionring.SavePath) map[string]benchCounters {
	out := map[string]benchCounters{}
	var mu sync.Mutex
	ctx, cancel := context.WithTimeout(ctx, benchRawTime)
	defer cancel()
	_ = eachServer(ctx, sp, func(ctx context.Context, name string, rdb *redis.Client) error { // what is missing is not shown
		one, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		text, err := rdb.Info(one).Result()
		if err != nil {
			return err
		}
		var c benchCounters
		for line := range strings.Lines(text) {
			switch k, v, _ := strings.Cut(strings.TrimSpace(line), ":"); k {
			case "run_id":
				c.runID = v
			case "total_commands_processed":
				_, _ = fmt.Sscan(v, &c.commands) // 0 when it is no number
			}
		}
		mu.Lock()
		out[name] = c
		mu.Unlock()
		return nil
	})
	return out
}
