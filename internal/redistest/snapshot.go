package redistest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

// dataFiles are what holds a server's keys in its data directory: RDB, the
// append-only file of version 6, and its directory since 7.
var dataFiles = []string{"dump.rdb", "appendonly.aof", "appendonlydir"}

// Snapshot is a copy of a server's data at one moment. It is gone when that
// server is stopped.
type Snapshot struct {
	dir string
}

// SaveSnapshot copies the data as it would be found after a crash now: of a
// running server all its keys, of one that is down what it left on disk.
func (s *Server) SaveSnapshot(ctx context.Context) (*Snapshot, error) {
	s.op.Lock()
	defer s.op.Unlock()
	switch state := s.State(); {
	case state == Stopped:
		return nil, ErrStopped
	case state == Running && s.opts.AppendOnly:
		// Everything that was acknowledged is in the file; nothing may be
		// appended while it is copied.
		if err := s.signal(true); err != nil {
			return nil, err
		}
		snap, err := s.copyData()
		return snap, errors.Join(err, s.signal(false))
	case state == Running:
		return s.saveAndCopy(ctx)
	}
	return s.copyData()
}

// saveAndCopy leaves what is on the server's disk as it was, so that taking a
// snapshot does not change what a killed server comes back with.
func (s *Server) saveAndCopy(ctx context.Context) (*Snapshot, error) {
	file := filepath.Join(s.dataDir(), "dump.rdb")
	aside := file + ".aside"
	err := os.Rename(file, aside)
	had := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var snap *Snapshot
	if _, err = s.DoContext(ctx, "SAVE"); err == nil {
		snap, err = s.copyData()
	}
	undo := func() error { return os.RemoveAll(file) }
	if had {
		undo = func() error { return os.Rename(aside, file) }
	}
	if err = errors.Join(err, undo()); err != nil {
		return nil, fmt.Errorf("redistest: snapshot: %w", err)
	}
	return snap, nil
}

func (s *Server) copyData() (*Snapshot, error) {
	s.mu.Lock()
	s.snapshots++
	snap := &Snapshot{dir: filepath.Join(s.dir, "snapshots", strconv.Itoa(s.snapshots))}
	s.mu.Unlock()
	if err := os.MkdirAll(snap.dir, 0o700); err != nil {
		return nil, err
	}
	return snap, copyDataFiles(snap.dir, s.dataDir())
}

// RestoreSnapshot puts the data of a snapshot, taken of this server or of
// another, in the place of what is on disk. A server that runs is killed
// first, so that a following Restart brings it back with old data.
func (s *Server) RestoreSnapshot(snap *Snapshot) error {
	s.op.Lock()
	defer s.op.Unlock()
	return s.restore(snap)
}

func (s *Server) restore(snap *Snapshot) error {
	if _, err := os.Stat(snap.dir); err != nil {
		return fmt.Errorf("redistest: snapshot: %w", err)
	}
	if err := s.kill(); err != nil {
		return err
	}
	if err := s.removeData(); err != nil {
		return err
	}
	return copyDataFiles(s.dataDir(), snap.dir)
}

// RestartWith kills the server if it runs and brings it back with the data of
// a snapshot.
func (s *Server) RestartWith(ctx context.Context, snap *Snapshot) error {
	s.op.Lock()
	defer s.op.Unlock()
	if err := s.restore(snap); err != nil {
		return err
	}
	return s.launch(ctx)
}

func (s *Server) removeData() error {
	for _, name := range dataFiles {
		if err := os.RemoveAll(filepath.Join(s.dataDir(), name)); err != nil {
			return err
		}
	}
	return nil
}

func copyDataFiles(to, from string) error {
	for _, name := range dataFiles {
		src, dst := filepath.Join(from, name), filepath.Join(to, name)
		info, err := os.Stat(src)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return err
		case info.IsDir():
			err = os.CopyFS(dst, os.DirFS(src))
		default:
			var b []byte
			if b, err = os.ReadFile(src); err == nil {
				err = os.WriteFile(dst, b, 0o600)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}
