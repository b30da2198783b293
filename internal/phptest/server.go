package phptest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sessionring/sessionring/internal/redistest"
)

// supervise runs PHP in the background and ends the whole process group once
// PHP ends or standard input does. PHP's workers do not end with their parent,
// and the pipe breaks even if the test dies of SIGKILL.
const supervise = `( "$@" </dev/null; kill -KILL 0 ) & while read -r line; do :; done; kill -KILL 0`

// App is a web application for PHP's built-in server. Every path is answered
// by the script.
type App struct {
	// Code is PHP; "<?php" may be left out.
	Code string
	// INI are settings. Errors are logged, not shown, unless they say
	// otherwise.
	INI map[string]string
	// Env are further variables, NAME=value.
	Env []string
	// Workers is how many requests PHP works on at a time, 1 when 0.
	Workers int
}

// Server is a running App.
type Server struct {
	// URL is the base, without a slash at the end.
	URL string

	dir   string
	port  *redistest.Port
	cmd   *exec.Cmd
	stdin io.Closer
	done  chan struct{} // closed once the processes are reaped
	stop  sync.Once
}

// Start serves an App on a loopback port and returns once it answers. The
// context bounds the start only. The server must be stopped.
func Start(ctx context.Context, app App) (*Server, error) {
	php, err := program()
	if err != nil {
		return nil, err
	}
	s := &Server{done: make(chan struct{})}
	if s.dir, err = os.MkdirTemp("", "phptest-"); err != nil {
		return nil, err
	}
	if err = s.launch(php, app); err != nil {
		close(s.done)
		s.Stop()
		return nil, err
	}
	if err := s.waitReady(ctx); err != nil {
		err = fmt.Errorf("phptest: php -S: %w\n%s", err, s.Log())
		s.Stop()
		return nil, err
	}
	return s, nil
}

func (s *Server) launch(php string, app App) error {
	file, err := prepare(s.dir, app.Code, app.INI, map[string]string{"display_errors": "0", "log_errors": "1"})
	if err != nil {
		return err
	}
	if s.port, err = redistest.ReservePort(""); err != nil {
		return err
	}
	s.URL = "http://" + s.port.Addr()
	log, err := os.Create(s.logFile())
	if err != nil {
		return err
	}
	defer log.Close() // the processes have their own

	s.cmd = exec.Command("sh", "-c", supervise, "sh", php, "-S", s.port.Addr(), file)
	s.cmd.Dir = s.dir
	s.cmd.Env = append(environ(s.dir), app.Env...)
	if app.Workers > 1 {
		s.cmd.Env = append(s.cmd.Env, "PHP_CLI_SERVER_WORKERS="+strconv.Itoa(app.Workers))
	}
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.SysProcAttr = groupAttr()
	if s.stdin, err = s.cmd.StdinPipe(); err != nil {
		return err
	}
	if err := s.cmd.Start(); err != nil {
		return err
	}
	go func() { // ends with the processes, which Stop kills
		defer close(s.done)
		s.cmd.Wait()
	}()
	return nil
}

func (s *Server) logFile() string { return filepath.Join(s.dir, "log") }

func (s *Server) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	var d net.Dialer
	for {
		if c, err := d.DialContext(ctx, "tcp", s.port.Addr()); err == nil {
			return c.Close()
		}
		select {
		case <-s.done:
			return errors.New("ended at once")
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Log returns what PHP logged: requests, and its warnings and errors.
func (s *Server) Log() string {
	b, _ := os.ReadFile(s.logFile())
	return string(b)
}

// Problems returns the lines of the log that tell of PHP's warnings and errors.
func (s *Server) Problems() []string {
	var found []string
	for line := range strings.Lines(s.Log()) {
		for _, kind := range []string{"PHP Warning", "PHP Fatal", "PHP Notice", "PHP Deprecated", "PHP Parse", "PHP Recoverable"} {
			if strings.Contains(line, kind) {
				found = append(found, strings.TrimSpace(line))
				break
			}
		}
	}
	return found
}

// Stop ends PHP and its workers and removes its files. It may be called more
// than once.
func (s *Server) Stop() error {
	var err error
	s.stop.Do(func() {
		if s.cmd != nil && s.cmd.Process != nil {
			select {
			case <-s.done:
			default:
				killGroup(s.cmd.Process.Pid)
				<-s.done
			}
		}
		if s.stdin != nil {
			s.stdin.Close()
		}
		s.port.Release()
		err = os.RemoveAll(s.dir)
	})
	return err
}
