package redistest

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Command is one command that a server carried out.
type Command struct {
	Time time.Time
	DB   int
	// Source is the client's address, unix:PATH, or "lua" for what a script
	// called.
	Source string
	// Args are the command's name, as the client spelt it, and its arguments.
	Args []string
}

// Name returns the command's name in upper case.
func (c Command) Name() string {
	if len(c.Args) == 0 {
		return ""
	}
	return strings.ToUpper(c.Args[0])
}

// Monitor records what a server carries out, by its MONITOR command. It shows
// neither AUTH nor administrative commands.
type Monitor struct {
	server *Server
	conn   *Conn
	done   chan struct{}

	mu       sync.Mutex
	commands []Command
	more     chan struct{} // closed and replaced when something arrives
	err      error
}

// Monitor begins to record; every command that the server receives after the
// return is seen. It ends with ctx, with Stop, or with the server.
func (s *Server) Monitor(ctx context.Context) (*Monitor, error) {
	conn, err := s.Connect(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Do(ctx, "MONITOR"); err != nil {
		conn.Close()
		return nil, err
	}
	conn.nc.SetDeadline(time.Time{})
	m := &Monitor{server: s, conn: conn, done: make(chan struct{}), more: make(chan struct{})}
	release := context.AfterFunc(ctx, func() { conn.Close() })
	go func() {
		defer close(m.done)
		defer release()
		m.read(conn.r)
	}()
	return m, nil
}

func (m *Monitor) read(r *bufio.Reader) {
	for {
		line, err := readLine(r)
		var cmd Command
		if err == nil {
			cmd, err = parseMonitor(strings.TrimPrefix(line, "+"))
		}
		m.mu.Lock()
		if err == nil {
			m.commands = append(m.commands, cmd)
		} else {
			m.err = err
		}
		close(m.more)
		m.more = make(chan struct{})
		m.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// Commands returns all that was recorded. It waits until everything that the
// server carried out before the call is in.
func (m *Monitor) Commands(ctx context.Context) ([]Command, error) {
	marker := "redistest-" + rand.Text()
	if _, err := m.server.DoContext(ctx, "ECHO", marker); err != nil {
		return nil, err
	}
	isMarker := func(c Command) bool { return len(c.Args) == 2 && c.Args[1] == marker }
	if err := m.Wait(ctx, isMarker); err != nil {
		return nil, err
	}
	return m.recorded(), nil
}

// Wait returns once a recorded command matches.
func (m *Monitor) Wait(ctx context.Context, match func(Command) bool) error {
	for seen := 0; ; {
		m.mu.Lock()
		fresh, more, err := m.commands[seen:], m.more, m.err
		m.mu.Unlock()
		for _, c := range fresh {
			if match(c) {
				return nil
			}
		}
		seen += len(fresh)
		if err != nil {
			return fmt.Errorf("redistest: monitor ended: %w", err)
		}
		select {
		case <-more:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Stop ends the recording and returns what is recorded so far.
func (m *Monitor) Stop() []Command {
	m.conn.Close()
	<-m.done
	return m.recorded()
}

// recorded leaves out the marks of Commands.
func (m *Monitor) recorded() []Command {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Command
	for _, c := range m.commands {
		if len(c.Args) == 2 && strings.HasPrefix(c.Args[1], "redistest-") {
			continue
		}
		out = append(out, c)
	}
	return out
}

// parseMonitor reads a line such as
//
//	1700000000.123456 [0 127.0.0.1:50000] "SET" "key" "a\x00value"
func parseMonitor(line string) (Command, error) {
	bad := func() (Command, error) {
		return Command{}, errors.New("redistest: unreadable MONITOR line")
	}
	stamp, rest, ok := strings.Cut(line, " [")
	if !ok {
		return bad()
	}
	seconds, micros, _ := strings.Cut(stamp, ".")
	sec, err1 := strconv.ParseInt(seconds, 10, 64)
	usec, err2 := strconv.ParseInt(micros, 10, 64)
	from, args, ok := strings.Cut(rest, "] ")
	db, source, ok2 := strings.Cut(from, " ")
	n, err3 := strconv.Atoi(db)
	if err := errors.Join(err1, err2, err3); err != nil || !ok || !ok2 {
		return bad()
	}
	c := Command{Time: time.Unix(sec, usec*1000), DB: n, Source: source}
	for args != "" {
		// The server escapes as Go does, as far as it escapes at all.
		q, err := strconv.QuotedPrefix(args)
		if err != nil {
			return bad()
		}
		arg, err := strconv.Unquote(q)
		if err != nil {
			return bad()
		}
		c.Args = append(c.Args, arg)
		args = strings.TrimPrefix(args[len(q):], " ")
	}
	return c, nil
}
