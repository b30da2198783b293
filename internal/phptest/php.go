// Package phptest runs PHP with the phpredis extension, so that tests can hold
// this module against what PHP itself reads and writes: single scripts with
// php-cli, and web applications with PHP's built-in server and several workers.
//
// Like redistest it depends on the standard library only and leaves no process
// behind, however the test ends.
package phptest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// ErrNoPHP means that no php program, or none with the extension, was found.
var ErrNoPHP = errors.New("phptest: no php with the redis extension")

// Find returns the php program, $PHP or php on the PATH, after asking it for
// the redis and session extensions. Without them the error matches ErrNoPHP.
func Find(ctx context.Context) (string, error) {
	path, err := program()
	if err != nil {
		return "", err
	}
	const ask = `exit(extension_loaded("redis") && extension_loaded("session") ? 0 : 1);`
	if err := exec.CommandContext(ctx, path, "-r", ask).Run(); err != nil {
		return "", fmt.Errorf("%w: %s lacks it: %w", ErrNoPHP, path, err)
	}
	return path, nil
}

func program() (string, error) {
	name := os.Getenv("PHP")
	if name == "" {
		name = "php"
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrNoPHP, err)
	}
	return path, nil
}

// SessionINI returns the settings for sessions in Redis: the save path and
// pairs of further names and values, for example "session.serialize_handler",
// "igbinary".
func SessionINI(savePath string, pairs ...string) map[string]string {
	ini := map[string]string{"session.save_handler": "redis", "session.save_path": savePath}
	for i := 0; i+1 < len(pairs); i += 2 {
		ini[pairs[i]] = pairs[i+1]
	}
	return ini
}

// Script is one run of php-cli.
type Script struct {
	// Code is PHP; "<?php" may be left out.
	Code string
	// INI are settings. All errors are reported, on standard error, unless
	// they say otherwise.
	INI map[string]string
	// Args are what the script finds in $argv[1] and on.
	Args []string
	// Env are further variables, NAME=value.
	Env   []string
	Stdin io.Reader
}

// RunError is a script that did not end well.
type RunError struct {
	Err    error // *exec.ExitError for a script that ended with a status
	Stderr string
}

func (e *RunError) Error() string {
	if e.Stderr == "" {
		return "phptest: " + e.Err.Error()
	}
	return "phptest: " + e.Err.Error() + ": " + strings.TrimSpace(e.Stderr)
}

func (e *RunError) Unwrap() error { return e.Err }

// Run runs a script to its end, or kills it when ctx ends. What it wrote is
// returned in either case. A status other than 0 is a *RunError; PHP's
// warnings do not change the status, so look at stderr too.
func Run(ctx context.Context, s Script) (stdout, stderr string, err error) {
	php, err := program()
	if err != nil {
		return "", "", err
	}
	dir, err := os.MkdirTemp("", "phptest-")
	if err != nil {
		return "", "", err
	}
	defer os.RemoveAll(dir)
	file, err := prepare(dir, s.Code, s.INI, map[string]string{"display_errors": "stderr", "log_errors": "0"})
	if err != nil {
		return "", "", err
	}

	var out, errOut bytes.Buffer
	cmd := exec.CommandContext(ctx, php, append([]string{file}, s.Args...)...)
	cmd.Env = append(environ(dir), s.Env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = s.Stdin, &out, &errOut
	cmd.SysProcAttr = childAttr()
	cmd.WaitDelay = 5 * time.Second
	// The kernel's parent death signal is tied to the thread that forked.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", ctx.Err(), err)
		}
		return out.String(), errOut.String(), &RunError{Err: err, Stderr: errOut.String()}
	}
	return out.String(), errOut.String(), nil
}

// prepare writes the script and its settings to dir.
func prepare(dir, code string, ini, defaults map[string]string) (file string, err error) {
	if !strings.HasPrefix(code, "<?php") {
		code = "<?php\n" + code
	}
	file = filepath.Join(dir, "script.php")
	if err := os.WriteFile(file, []byte(code), 0o600); err != nil {
		return "", err
	}
	all := map[string]string{"error_reporting": "32767", "html_errors": "0"}
	maps.Copy(all, defaults)
	maps.Copy(all, ini)
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(all)) {
		value, err := quote(all[name])
		if err != nil {
			return "", fmt.Errorf("%w: %s", err, name)
		}
		fmt.Fprintf(&b, "%s = %s\n", name, value)
	}
	// A file, as passwords do not belong among a process's arguments.
	return file, os.WriteFile(filepath.Join(dir, "zz-phptest.ini"), []byte(b.String()), 0o600)
}

// environ makes PHP read dir's settings after those of the installation: an
// empty element of PHP_INI_SCAN_DIR stands for the directory built in.
func environ(dir string) []string {
	return append(os.Environ(), "PHP_INI_SCAN_DIR="+string(os.PathListSeparator)+dir)
}

// quote writes a value so that PHP's INI parser reads it back unchanged. In
// single quotes it takes everything as it is; in double quotes ${…} and
// backslashes before quotes and backslashes mean something.
func quote(v string) (string, error) {
	switch {
	case strings.ContainsAny(v, "\x00\r\n"):
		return "", errors.New("phptest: a setting must be one line")
	case !strings.Contains(v, "'"):
		return "'" + v + "'", nil
	case strings.Contains(v, "$"):
		return "", errors.New("phptest: a setting cannot hold both ' and $")
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(v) + `"`, nil
}
