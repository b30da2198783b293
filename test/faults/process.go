package faults

import (
	"errors"
	"io"
	"net/rpc"
	"os"
	"os/exec"
	"sync"
	"time"
)

// processEnv makes the program an application server that is driven over its standard input and output.
const processEnv = "SESSIONRING_FAULTS_APP"

// ServeProcess turns the process into an application server if it was started as one, and does not return then.
func ServeProcess() {
	if os.Getenv(processEnv) == "" {
		return
	}
	s := rpc.NewServer()
	if err := s.RegisterName("App", &appServer{}); err != nil {
		panic(err)
	}
	s.ServeConn(struct {
		io.Reader
		io.WriteCloser
	}{os.Stdin, os.Stdout})
	os.Exit(0)
}

// appServer hands calls from the parent process on to the application.
type appServer struct{ app App }

// Nothing is an argument or reply that holds none.
type Nothing struct{}

func (s *appServer) Open(conf AppConfig, _ *Nothing) (err error) {
	s.app, err = OpenApp(conf)
	return err
}

func (s *appServer) Start(l Load, _ *Nothing) error { return s.app.Start(l) }

func (s *appServer) Stop(_ Nothing, ops *[]Op) (err error) {
	*ops, err = s.app.Stop()
	return err
}

func (s *appServer) Do(j Job, _ *Nothing) error { return s.app.Do(j) }

func (s *appServer) View(_ Nothing, v *View) (err error) {
	*v, err = s.app.View()
	return err
}

func (s *appServer) Reconfigure(path string, _ *Nothing) error { return s.app.Reconfigure(path) }

func (s *appServer) Close(_ Nothing, _ *Nothing) error { return s.app.Close() }

// processApp is an application server in a process of its own: a clock, a runtime and connections apart.
type processApp struct {
	cmd   *exec.Cmd
	calls *rpc.Client
	once  sync.Once
}

// OpenProcess starts this program again as an application server. The program must call ServeProcess first of all.
func OpenProcess(conf AppConfig) (App, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), processEnv+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	a := &processApp{cmd: cmd, calls: rpc.NewClient(struct {
		io.Reader
		io.WriteCloser
	}{out, in})}
	if err := a.calls.Call("App.Open", conf, &Nothing{}); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

func (a *processApp) Start(l Load) error { return a.calls.Call("App.Start", l, &Nothing{}) }

func (a *processApp) Stop() (ops []Op, err error) {
	err = a.calls.Call("App.Stop", Nothing{}, &ops)
	return ops, err
}

func (a *processApp) Do(j Job) error { return a.calls.Call("App.Do", j, &Nothing{}) }

func (a *processApp) View() (v View, err error) {
	err = a.calls.Call("App.View", Nothing{}, &v)
	return v, err
}

func (a *processApp) Reconfigure(path string) error {
	return a.calls.Call("App.Reconfigure", path, &Nothing{})
}

// Close ends the process, which sees the end of its input, and waits for it.
func (a *processApp) Close() error {
	var err error
	a.once.Do(func() {
		_ = a.calls.Call("App.Close", Nothing{}, &Nothing{})
		_ = a.calls.Close()
		late := time.AfterFunc(10*time.Second, func() { _ = a.cmd.Process.Kill() })
		err = a.cmd.Wait()
		late.Stop()
	})
	return err
}
