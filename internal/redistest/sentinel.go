package redistest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// SentinelOptions are those of a group of Sentinels. The zero value watches
// "mymaster" without a password.
type SentinelOptions struct {
	// Name of the watched primary, mymaster when empty.
	Name string
	// Password is the Sentinels' own requirepass, which has nothing to do
	// with that of the servers they watch.
	Password string
	// Host is the loopback address to bind, 127.0.0.1 when empty.
	Host string
	// DownAfter is how long a server is silent before it counts as down, 1 s
	// when 0.
	DownAfter time.Duration
	// FailoverTimeout, 5 s when 0; a failed failover is tried again after
	// twice that.
	FailoverTimeout time.Duration
	// Config are further lines of the configuration file.
	Config []string
}

// Sentinel is a group of real Sentinel processes that watch one primary.
type Sentinel struct {
	// Name of the watched primary.
	Name string
	// Sentinels are the processes. Kill, Pause and the others work on them
	// too.
	Sentinels []*Server

	watched []*Server
}

// StartSentinel starts n Sentinels that watch a primary and its replicas, and
// returns once they know each other and all replicas. The group must be
// stopped; the watched servers stay the caller's.
func StartSentinel(ctx context.Context, primary *Server, replicas []*Server, n, quorum int, opts SentinelOptions) (*Sentinel, error) {
	g := &Sentinel{Name: opts.Name, watched: append([]*Server{primary}, replicas...)}
	if g.Name == "" {
		g.Name = "mymaster"
	}
	// Sentinel asks a primary for its replicas every 10 s only, so they had
	// better be there when it first asks.
	err := poll(ctx, func() error {
		info, err := primary.DoContext(ctx, "INFO", "replication")
		text, _ := info.(string)
		if have := strings.Count(text, "state=online"); err == nil && have < len(replicas) {
			err = fmt.Errorf("%d of %d replicas follow", have, len(replicas))
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("redistest: sentinel: %w", err)
	}

	config := g.config(primary, quorum, opts)
	g.Sentinels, err = StartNodes(ctx, n, Options{
		Binary: primary.binary, Host: opts.Host, Password: opts.Password, Config: config, sentinel: true,
	})
	if err != nil {
		return nil, err
	}
	for _, s := range g.Sentinels {
		// Look and talk more often than every 10 s and 2 s. Before version 7
		// there is no such command, and things only take longer.
		s.DoContext(ctx, "SENTINEL", "DEBUG", "INFO-PERIOD", 1000, "PUBLISH-PERIOD", 500)
	}
	if err := poll(ctx, func() error { return g.complete(ctx, n, len(replicas)) }); err != nil {
		g.Stop()
		return nil, fmt.Errorf("redistest: sentinel: %w", err)
	}
	return g, nil
}

func (g *Sentinel) config(primary *Server, quorum int, opts SentinelOptions) []string {
	downAfter, timeout := opts.DownAfter, opts.FailoverTimeout
	if downAfter == 0 {
		downAfter = time.Second
	}
	if timeout == 0 {
		timeout = 5 * time.Second
	}
	config := []string{
		fmt.Sprintf("sentinel monitor %s %s %d %d", g.Name, primary.Host(), primary.Port(), quorum),
		fmt.Sprintf("sentinel down-after-milliseconds %s %d", g.Name, downAfter.Milliseconds()),
		fmt.Sprintf("sentinel failover-timeout %s %d", g.Name, timeout.Milliseconds()),
	}
	if user, pass := primary.login(); pass != "" {
		config = append(config, fmt.Sprintf("sentinel auth-pass %s %s", g.Name, quote(pass)))
		if user != "" {
			config = append(config, fmt.Sprintf("sentinel auth-user %s %s", g.Name, user))
		}
	}
	return append(config, opts.Config...)
}

// complete returns nil once every Sentinel knows all others and all replicas.
func (g *Sentinel) complete(ctx context.Context, n, replicas int) error {
	for _, s := range g.Sentinels {
		reply, err := s.DoContext(ctx, "SENTINEL", "MASTER", g.Name)
		if err != nil {
			return err
		}
		list, _ := reply.([]any)
		m := make(map[any]any)
		for i := 0; i+1 < len(list); i += 2 {
			m[list[i]] = list[i+1]
		}
		if m["num-other-sentinels"] != strconv.Itoa(n-1) || m["num-slaves"] != strconv.Itoa(replicas) || m["flags"] != "master" {
			return fmt.Errorf("%s sees %v other sentinels, %v replicas, primary %v",
				s.Addr(), m["num-other-sentinels"], m["num-slaves"], m["flags"])
		}
		if _, err := s.DoContext(ctx, "SENTINEL", "CKQUORUM", g.Name); err != nil {
			return err
		}
	}
	return nil
}

// Primary returns the server that the first running Sentinel names as primary.
func (g *Sentinel) Primary(ctx context.Context) (*Server, error) {
	for _, s := range g.Sentinels {
		if s.State() == Running {
			return g.primaryBy(ctx, s)
		}
	}
	return nil, ErrNotRunning
}

func (g *Sentinel) primaryBy(ctx context.Context, sentinel *Server) (*Server, error) {
	reply, err := sentinel.DoContext(ctx, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", g.Name)
	if err != nil {
		return nil, err
	}
	if list, _ := reply.([]any); len(list) == 2 {
		addr := net.JoinHostPort(fmt.Sprint(list[0]), fmt.Sprint(list[1]))
		for _, w := range g.watched {
			if w.Addr() == addr {
				return w, nil
			}
		}
	}
	return nil, fmt.Errorf("redistest: sentinel names an unknown primary, %v", reply)
}

// WaitFailover returns the new primary once all running Sentinels name the
// same running server, another one than old, and that server says so too.
func (g *Sentinel) WaitFailover(ctx context.Context, old *Server) (*Server, error) {
	var found *Server
	err := poll(ctx, func() error {
		found = nil
		for _, s := range g.Sentinels {
			if s.State() != Running {
				continue
			}
			p, err := g.primaryBy(ctx, s)
			switch {
			case err != nil:
				return err
			case p == old || p.State() != Running:
				return fmt.Errorf("%s still names %s", s.Addr(), p.Addr())
			case found != nil && p != found:
				return errors.New("sentinels disagree")
			}
			found = p
		}
		if found == nil {
			return ErrNotRunning
		}
		info, err := found.DoContext(ctx, "INFO", "replication")
		if text, _ := info.(string); err == nil && parseInfo(text)["role"] != "master" {
			err = fmt.Errorf("%s is no primary yet", found.Addr())
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("redistest: failover: %w", err)
	}
	return found, nil
}

// Addrs returns host:port of every Sentinel.
func (g *Sentinel) Addrs() []string {
	addrs := make([]string, len(g.Sentinels))
	for i, s := range g.Sentinels {
		addrs[i] = s.Addr()
	}
	return addrs
}

// Stop stops the Sentinels. It may be called more than once.
func (g *Sentinel) Stop() error { return StopNodes(g.Sentinels) }

// poll calls f until it succeeds or ctx ends, and then returns f's last error
// too.
func poll(ctx context.Context, f func() error) error {
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
