package redistest

import (
	"context"
	"fmt"
	"strings"
)

// Do runs one command over a connection of its own, logged in and with all
// rights, and waits up to 5 s for the reply. See Conn.Do for the types.
func (s *Server) Do(args ...any) (any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), defaultTimeout)
	defer cancel()
	return s.DoContext(ctx, args...)
}

// DoContext is Do with the caller's deadline.
func (s *Server) DoContext(ctx context.Context, args ...any) (any, error) {
	c, err := s.Connect(ctx)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.Do(ctx, args...)
}

// Connect opens a connection by the unix socket, which works whatever the
// network does, and logs in with all rights.
func (s *Server) Connect(ctx context.Context) (*Conn, error) {
	c, err := Dial(ctx, "unix", s.UnixSocket())
	if err != nil {
		return nil, err
	}
	user, password := s.login()
	if password == "" {
		return c, nil
	}
	auth := []any{"AUTH", password}
	if user != "" {
		auth = []any{"AUTH", user, password}
	}
	if _, err := c.Do(ctx, auth...); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// FlushAll removes all keys of all databases.
func (s *Server) FlushAll() error {
	_, err := s.Do("FLUSHALL", "SYNC")
	return err
}

// DBSize counts the keys of database 0.
func (s *Server) DBSize() (int, error) {
	v, err := s.Do("DBSIZE")
	if err != nil {
		return 0, err
	}
	n, ok := v.(int64)
	if !ok {
		return 0, fmt.Errorf("redistest: DBSIZE answered %T", v)
	}
	return int(n), nil
}

// Info returns the fields of one section of INFO, of the usual ones when
// section is empty.
func (s *Server) Info(section string) (map[string]string, error) {
	args := []any{"INFO"}
	if section != "" {
		args = append(args, section)
	}
	v, err := s.Do(args...)
	if err != nil {
		return nil, err
	}
	text, _ := v.(string)
	return parseInfo(text), nil
}

func parseInfo(text string) map[string]string {
	fields := make(map[string]string)
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if name, value, ok := strings.Cut(line, ":"); ok && !strings.HasPrefix(line, "#") {
			fields[name] = value
		}
	}
	return fields
}
