package redistest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

var (
	// ErrNoServer means that no server program was found.
	ErrNoServer = errors.New("redistest: neither redis-server nor valkey-server found")
	// ErrNotRunning is returned by what needs a running process.
	ErrNotRunning = errors.New("redistest: server is not running")
	// ErrStopped is returned by everything after Stop.
	ErrStopped = errors.New("redistest: server was stopped for good")
)

// State is what a Server's process does.
type State int

const (
	// Down has no process: killed, shut down, or ended by itself.
	Down State = iota
	// Running answers.
	Running
	// Paused stands still, with its sockets open.
	Paused
	// Stopped was given up by Stop.
	Stopped
)

func (s State) String() string {
	switch s {
	case Down:
		return "down"
	case Running:
		return "running"
	case Paused:
		return "paused"
	case Stopped:
		return "stopped"
	}
	return fmt.Sprintf("State(%d)", int(s))
}

// StartError tells why a server did not come up, with the end of its log.
type StartError struct {
	Addr string
	Err  error
	Log  string
}

func (e *StartError) Error() string {
	msg := "redistest: server at " + e.Addr + " did not start: " + e.Err.Error()
	if e.Log != "" {
		msg += "\n" + e.Log
	}
	return msg
}

func (e *StartError) Unwrap() error { return e.Err }

// Server is one server process, or the place where one was and will be again:
// its address, data and log outlive the process. Its methods are safe for
// concurrent use; those that change the process run one after another.
type Server struct {
	opts          Options
	binary        string
	dir           string
	port          *Port
	tlsPort       *Port
	certs         *Certificates
	adminPassword string

	op sync.Mutex // held by whatever starts or ends the process

	mu        sync.Mutex // guards the fields below
	proc      *process
	paused    bool
	stopped   bool
	snapshots int
}

// FindBinary returns the program that Start uses: binary, or $REDIS_SERVER, or
// redis-server, or valkey-server. It returns an error matching ErrNoServer
// when there is none.
func FindBinary(binary string) (string, error) {
	names := []string{"redis-server", "valkey-server"}
	if binary == "" {
		binary = os.Getenv("REDIS_SERVER")
	}
	if binary != "" {
		names = []string{binary}
	}
	var last error
	for _, name := range names {
		path, err := exec.LookPath(name)
		if err == nil {
			return path, nil
		}
		last = err
	}
	return "", fmt.Errorf("%w: %w", ErrNoServer, last)
}

// Start runs a server and returns once it answers. The context bounds the
// start only. The server must be stopped with Stop.
func Start(ctx context.Context, opts Options) (*Server, error) {
	binary, err := FindBinary(opts.Binary)
	if err != nil {
		return nil, err
	}
	// A short path: that of a unix socket has room for about 100 bytes.
	dir, err := os.MkdirTemp("", "redistest-")
	if err != nil {
		return nil, err
	}
	s := &Server{opts: opts, binary: binary, dir: dir, adminPassword: rand.Text()}
	if m := opts.ReplicaOf; m != nil {
		s.adminPassword = m.adminPassword // either may come to follow the other
	}
	if err := s.prepare(); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	for try := 0; ; try++ {
		if err = s.choosePorts(); err == nil {
			err = s.writeConfig()
		}
		if err == nil {
			err = s.launch(ctx)
		}
		if err == nil {
			return s, nil
		}
		// Only where ports cannot be reserved does somebody else get there
		// first.
		var se *StartError
		if try < 5 && errors.As(err, &se) && strings.Contains(se.Log, "in use") {
			continue
		}
		s.Stop()
		return nil, err
	}
}

func (s *Server) prepare() error {
	if err := os.Mkdir(s.dataDir(), 0o700); err != nil {
		return err
	}
	if !s.opts.TLS {
		return nil
	}
	certs, err := NewCertificates(s.dir, s.opts.host())
	s.certs = certs
	return err
}

func (s *Server) choosePorts() error {
	s.port.Release()
	s.tlsPort.Release()
	s.port, s.tlsPort = nil, nil
	var err error
	if s.port, err = reservePort(s.opts.host(), s.opts.cluster); err != nil {
		return err
	}
	if s.opts.TLS {
		s.tlsPort, err = ReservePort(s.opts.host())
	}
	return err
}

func (s *Server) dataDir() string    { return filepath.Join(s.dir, "data") }
func (s *Server) configFile() string { return filepath.Join(s.dir, "redis.conf") }
func (s *Server) logFile() string    { return filepath.Join(s.dir, "log") }

// Host returns the address that the server is bound to, without the port.
func (s *Server) Host() string { return s.port.host }

// Port returns the TCP port, which never changes.
func (s *Server) Port() int { return s.port.port }

// Addr returns host:port, with an IPv6 host in brackets.
func (s *Server) Addr() string { return s.port.Addr() }

// TLSAddr returns host:port of the TLS port, or "" without one.
func (s *Server) TLSAddr() string {
	if s.tlsPort == nil {
		return ""
	}
	return s.tlsPort.Addr()
}

// Certificates returns the files behind the TLS port, or nil without one.
func (s *Server) Certificates() *Certificates { return s.certs }

// UnixSocket returns the path of the socket on which the server also listens.
func (s *Server) UnixSocket() string { return filepath.Join(s.dir, "redis.sock") }

// Password returns requirepass.
func (s *Server) Password() string { return s.opts.Password }

// State tells what the process does now.
func (s *Server) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.stopped:
		return Stopped
	case s.proc == nil || s.proc.exited():
		return Down
	case s.paused:
		return Paused
	}
	return Running
}

// PID returns the process's id, or 0 when it is down.
func (s *Server) PID() int {
	if p := s.process(); p != nil {
		return p.pid()
	}
	return 0
}

// process returns the living process, or nil.
func (s *Server) process() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil || s.proc.exited() {
		return nil
	}
	return s.proc
}

// launch starts the process and waits until it answers. The caller holds op,
// or is Start.
func (s *Server) launch(ctx context.Context) error {
	timeout := s.opts.StartTimeout
	if timeout == 0 {
		timeout = defaultStartTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	out, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close() // the child has its own
	args := []string{s.configFile()}
	if s.opts.sentinel {
		args = append(args, "--sentinel")
	}
	p, err := startProcess(s.binary, args, s.dir, out)
	if err != nil {
		return &StartError{Addr: s.Addr(), Err: err}
	}
	s.mu.Lock()
	s.proc, s.paused = p, false
	s.mu.Unlock()
	if err := s.waitReady(ctx, p); err != nil {
		p.kill()
		return &StartError{Addr: s.Addr(), Err: err, Log: s.LogTail(15)}
	}
	return nil
}

func (s *Server) waitReady(ctx context.Context, p *process) error {
	last := error(ErrNotRunning)
	for {
		select {
		case <-p.done:
			return fmt.Errorf("process ended: %v", p.err)
		case <-ctx.Done():
			return fmt.Errorf("%w, last: %w", ctx.Err(), last)
		case <-time.After(3 * time.Millisecond):
		}
		// Its own socket: on a TCP port somebody else might answer.
		reply, err := s.DoContext(ctx, "PING")
		if err == nil && reply == "PONG" {
			return nil
		}
		if err != nil {
			last = err
		}
	}
}

// Kill ends the process as kill -9 does and waits for its end. Killing a
// server that is down is no error.
func (s *Server) Kill() error {
	s.op.Lock()
	defer s.op.Unlock()
	return s.kill()
}

func (s *Server) kill() error {
	s.mu.Lock()
	p, stopped := s.proc, s.stopped
	s.mu.Unlock()
	if stopped {
		return ErrStopped
	}
	if p != nil {
		p.kill()
	}
	return nil
}

// Pause makes the process stand still (SIGSTOP) and returns once it does. Its
// sockets stay open: the kernel accepts connections and takes in bytes, which
// the server works on when it wakes.
func (s *Server) Pause() error {
	s.op.Lock()
	defer s.op.Unlock()
	return s.signal(true)
}

// Resume wakes a paused process (SIGCONT).
func (s *Server) Resume() error {
	s.op.Lock()
	defer s.op.Unlock()
	return s.signal(false)
}

func (s *Server) signal(pause bool) error {
	p := s.process()
	if p == nil {
		return ErrNotRunning
	}
	act := p.cont
	if pause {
		act = p.stop
	}
	if err := act(); err != nil {
		return err
	}
	s.mu.Lock()
	s.paused = pause
	s.mu.Unlock()
	return nil
}

// Shutdown ends the process as its administrator would, with its data saved or
// not. A paused one is woken first.
func (s *Server) Shutdown(ctx context.Context, save bool) error {
	s.op.Lock()
	defer s.op.Unlock()
	return s.shutdown(ctx, save)
}

func (s *Server) shutdown(ctx context.Context, save bool) error {
	ctx, cancel := context.WithTimeout(ctx, defaultStartTimeout)
	defer cancel()
	p := s.process()
	if p == nil {
		return ErrNotRunning
	}
	if s.State() == Paused {
		if err := s.signal(false); err != nil {
			return err
		}
	}
	args := []any{"SHUTDOWN", "NOSAVE"}
	switch {
	case s.opts.sentinel:
		args = args[:1]
	case save:
		args[1] = "SAVE"
	}
	_, err := s.DoContext(ctx, args...)
	// The end of the connection is the good answer; only a reply refuses.
	if _, refused := errors.AsType[ReplyError](err); refused {
		return fmt.Errorf("redistest: shutdown: %w", err)
	}
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("redistest: shutdown: %w", ctx.Err())
	}
}

// Restart starts the server again at the same addresses with what is on its
// disk, and returns once it has loaded that and answers. A running server is
// shut down properly first, its data saved; a paused one is killed.
func (s *Server) Restart(ctx context.Context) error {
	s.op.Lock()
	defer s.op.Unlock()
	if s.State() == Running {
		if err := s.shutdown(ctx, true); err != nil {
			return err
		}
	}
	if err := s.kill(); err != nil {
		return err
	}
	return s.launch(ctx)
}

// RestartEmpty kills the server if it runs, deletes its data and starts it
// again at the same addresses.
func (s *Server) RestartEmpty(ctx context.Context) error {
	s.op.Lock()
	defer s.op.Unlock()
	if err := s.kill(); err != nil {
		return err
	}
	if err := s.removeData(); err != nil {
		return err
	}
	return s.launch(ctx)
}

// Stop ends the process, whatever it does, and removes its directory. It may
// be called more than once.
func (s *Server) Stop() error {
	s.op.Lock()
	defer s.op.Unlock()
	if err := s.kill(); err != nil {
		return nil // stopped already
	}
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	s.port.Release()
	s.tlsPort.Release()
	var err error
	if s.opts.Log != nil {
		err = s.copyLog()
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

func (s *Server) copyLog() error {
	f, err := os.Open(s.logFile())
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(s.opts.Log, f)
	return err
}

// LogTail returns the last lines of the server's log, of all its runs.
func (s *Server) LogTail(lines int) string {
	b, err := os.ReadFile(s.logFile())
	if err != nil {
		return ""
	}
	all := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
