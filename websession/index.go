package websession

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	mrand "math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/sessionring/sessionring"
)

// The index of a user's sessions is a record in the same store, under an id that no cookie may name. It is
// changed by compare-and-set, and looks at a few of its sessions at each login, dropping those that are gone:
// nothing is scanned, and nothing is left behind for ever.

// indexMark starts the id of an index. Neither this package nor PHP makes session ids with it.
const indexMark = "~"

// pruneAtOnce is how many entries are looked at when one is added: more than are added, so the index shrinks.
const pruneAtOnce = 4

type index struct {
	// Epoch changes when DestroyAll runs, so that a login under way then does not slip through.
	Epoch    string  `json:"epoch" php:"epoch"`
	Sessions []entry `json:"sessions" php:"sessions"`
}

type entry struct {
	ID      string `json:"id" php:"id"`
	Created int64  `json:"created" php:"created"` // ms since 1970
	Label   string `json:"label,omitempty" php:"label,omitempty"`
}

func indexID(user string) string {
	sum := sha256.Sum256([]byte("sessionring user\x00" + user))
	return indexMark + base64.RawURLEncoding.EncodeToString(sum[:])
}

// entry describes this session in its user's index.
func (s *Session) entry(id string) entry {
	created := s.meta.Created
	if created == 0 {
		created = time.Now().UnixMilli()
	}
	return entry{id, created, s.label}
}

// loadIndex reads a user's index; one that is not there is empty.
func (m *Manager) loadIndex(ctx context.Context, user string, opt sessionring.GetOptions) (ix index, v sessionring.Version, err error) {
	item, err := m.client.Load(ctx, indexID(user), opt)
	if err != nil {
		if errors.Is(err, sessionring.ErrNotFound) {
			if !errors.Is(err, sessionring.ErrOwnerAway) {
				err = nil
			}
			return ix, "", err
		}
		return ix, "", err
	}
	vals, err := m.opt.Codec.decode(item.Data)
	if err == nil {
		if _, err = vals.get(metaKey, &ix); err != nil {
			err = &DataError{m.opt.Codec.String(), err}
		}
	}
	return ix, item.Version, err
}

func (m *Manager) indexLifetime() time.Duration {
	return min(2*m.opt.IdleTimeout, sessionring.MaxLifetime)
}

// changeIndex has change work on the index until nobody comes in between. It reports whether to store.
func (m *Manager) changeIndex(ctx context.Context, user string, change func(*index) (bool, error)) (index, error) {
	start := time.Now()
	ix, err := m.tryChangeIndex(ctx, user, change)
	m.report(Operation{Name: "index", Err: err, Duration: time.Since(start)}, indexID(user))
	return ix, err
}

func (m *Manager) tryChangeIndex(ctx context.Context, user string, change func(*index) (bool, error)) (index, error) {
	for range maxTries {
		ix, version, err := m.loadIndex(ctx, user, sessionring.GetOptions{})
		if err != nil && !errors.Is(err, sessionring.ErrOwnerAway) && !errors.Is(err, ErrBadData) {
			return ix, err
		} // else a new one: sessions in use put themselves back
		if ix.Epoch == "" {
			ix.Epoch = rand.Text()
		}
		store, err := change(&ix)
		if err != nil || !store {
			return ix, err
		}
		vals := m.opt.Codec.empty()
		if _, err := vals.put(metaKey, ix); err != nil {
			return ix, err
		}
		data, err := vals.encode()
		if err != nil {
			return ix, err
		}
		_, err = m.client.Store(ctx, indexID(user), data, sessionring.SetOptions{Lifetime: m.indexLifetime(), IfVersion: &version})
		if err == nil || !errors.Is(err, sessionring.ErrConflict) {
			return ix, err
		}
		time.Sleep(mrand.N(2 * time.Millisecond))
	}
	return index{}, fmt.Errorf("websession: index of a user: %d others were quicker: %w", maxTries, sessionring.ErrConflict)
}

// enlist puts a session into its user's index before it is stored, and returns the index's epoch.
func (m *Manager) enlist(ctx context.Context, user string, e entry) (string, error) {
	var over []string
	ix, err := m.changeIndex(ctx, user, func(ix *index) (bool, error) {
		over = over[:0]
		n := pruneAtOnce
		if len(ix.Sessions) >= m.opt.MaxSessions {
			n = len(ix.Sessions)
		}
		m.prune(ctx, ix, n)
		ix.remove(e.ID)
		for len(ix.Sessions) >= m.opt.MaxSessions {
			oldest := slices.MinFunc(ix.Sessions, func(a, b entry) int { return cmp.Compare(a.Created, b.Created) })
			over = append(over, oldest.ID)
			ix.remove(oldest.ID)
		}
		ix.Sessions = append(ix.Sessions, e)
		return true, nil
	})
	if err != nil {
		return "", err
	}
	for _, id := range over {
		if err := m.client.Delete(ctx, id); err != nil {
			return "", err
		}
	}
	return ix.Epoch, nil
}

// prune looks at the first n entries, drops those whose session is gone, and puts the others last.
func (m *Manager) prune(ctx context.Context, ix *index, n int) {
	n = min(n, len(ix.Sessions))
	keep := slices.Clone(ix.Sessions[n:])
	for _, e := range ix.Sessions[:n] {
		if time.Since(time.UnixMilli(e.Created)) < time.Minute || m.alive(ctx, e.ID) {
			keep = append(keep, e) // a young one may not be stored yet
		}
	}
	ix.Sessions = keep
}

// alive reports whether there is a session of the id; whoever cannot be asked about counts as alive.
func (m *Manager) alive(ctx context.Context, id string) bool {
	item, err := m.client.Load(ctx, id, sessionring.GetOptions{})
	if err != nil {
		return !errors.Is(err, sessionring.ErrNotFound) || errors.Is(err, sessionring.ErrOwnerAway)
	}
	v, err := m.opt.Codec.decode(item.Data)
	if err != nil {
		return true
	}
	meta := metaOf(v)
	return meta.Moved == "" && !m.expired(meta)
}

func (ix *index) remove(id string) bool {
	n := len(ix.Sessions)
	ix.Sessions = slices.DeleteFunc(ix.Sessions, func(e entry) bool { return e.ID == id })
	return len(ix.Sessions) < n
}

func (ix *index) has(id string) bool {
	return slices.ContainsFunc(ix.Sessions, func(e entry) bool { return e.ID == id })
}

// confirm makes sure, after a session was stored, that its index has it: ErrGone when DestroyAll came between.
func (m *Manager) confirm(ctx context.Context, user string, e entry, epoch string) error {
	if user == "" {
		return nil
	}
	ix, _, err := m.loadIndex(ctx, user, sessionring.GetOptions{})
	switch {
	case err != nil && !errors.Is(err, sessionring.ErrOwnerAway):
		return err
	case ix.Epoch != "" && epoch != "" && ix.Epoch != epoch:
		return &goneError{errors.New("all sessions of its user were destroyed")}
	case ix.has(e.ID):
		return nil
	}
	_, err = m.changeIndex(ctx, user, func(ix *index) (bool, error) {
		if ix.has(e.ID) {
			return false, nil
		}
		ix.Sessions = append(ix.Sessions, e)
		return true, nil
	})
	return err
}

// relist extends the index's life with its session's, and puts the session back if the index lost it.
func (m *Manager) relist(ctx context.Context, user string, e entry) error {
	ix, _, err := m.loadIndex(ctx, user, sessionring.GetOptions{Touch: true, Lifetime: m.indexLifetime()})
	if err == nil && ix.has(e.ID) {
		return nil
	}
	return m.confirm(ctx, user, e, "")
}

// delist takes a session out of an index. If that fails, pruning does it later.
func (m *Manager) delist(ctx context.Context, user, id string) {
	_, err := m.changeIndex(ctx, user, func(ix *index) (bool, error) { return ix.remove(id), nil })
	if err != nil {
		m.opt.Logger.LogAttrs(ctx, slog.LevelWarn, "session could not be taken out of its user's index",
			slog.String("sid", masked(id)), slog.String("err", err.Error()))
	}
}

// UserSession is a live session of a user, for a page of "my devices".
type UserSession struct {
	Handle   string // names it: Session.Handle, Manager.DestroySession
	Label    string // Options.Label of the request that created it or logged in
	Created  time.Time
	LastSeen time.Time // exact to TouchInterval
}

// SessionsOf lists the live sessions of a user named by SetUser, the latest seen first. With an error that
// matches sessionring.ErrOwnerAway the list may lack some.
func (m *Manager) SessionsOf(ctx context.Context, user string) ([]UserSession, error) {
	ix, _, err := m.loadIndex(ctx, user, sessionring.GetOptions{})
	if err != nil {
		return nil, err
	}
	var list []UserSession
	var gone []string
	for _, e := range ix.Sessions {
		if !m.alive(ctx, e.ID) {
			if time.Since(time.UnixMilli(e.Created)) > time.Minute {
				gone = append(gone, e.ID)
			}
			continue
		}
		u := UserSession{Handle: handle(e.ID), Label: e.Label, Created: time.UnixMilli(e.Created)}
		u.LastSeen = u.Created
		copies, err := m.client.Explain(ctx, e.ID)
		if err != nil {
			return list, err
		}
		for _, c := range copies {
			if c.Err != nil || !c.Present || c.Dead {
				continue
			}
			seen := time.Now().Add(min(0, c.TTL-m.opt.IdleTimeout))
			if seen.After(u.LastSeen) {
				u.LastSeen = seen
			}
		}
		list = append(list, u)
	}
	if len(gone) > 0 {
		_, _ = m.changeIndex(ctx, user, func(ix *index) (bool, error) {
			n := len(ix.Sessions)
			for _, id := range gone {
				ix.remove(id)
			}
			return len(ix.Sessions) < n, nil
		})
	}
	slices.SortStableFunc(list, func(a, b UserSession) int { return b.LastSeen.Compare(a.LastSeen) })
	return list, nil
}

// DestroyAll ends all sessions of a user named by SetUser, "log out everywhere", and returns how many it
// ended. Requests that are under way with them cannot save them; a login that is under way at the same moment
// is ended too, or comes after. An error means that some may still live; with sessionring.ErrOwnerAway, that
// nobody could say which there are.
func (m *Manager) DestroyAll(ctx context.Context, user string) (int, error) {
	return m.destroySessions(ctx, user, func(entry) bool { return true }, true)
}

// DestroyOthers ends all sessions of this session's user but this one: "log out my other devices", or after
// a change of password.
func (s *Session) DestroyOthers(ctx context.Context) (n int, err error) {
	err = s.use(func() error {
		switch {
		case s.detached:
			return ErrDetached
		case s.readOnly != nil:
			return s.readOnly
		case s.meta.User == "":
			return nil
		}
		n, err = s.m.destroySessions(ctx, s.meta.User, func(e entry) bool {
			return e.ID != s.id && e.ID != s.next
		}, true)
		return err
	})
	return n, err
}

// DestroySession ends one session of a user. There being none of that handle is no error.
func (m *Manager) DestroySession(ctx context.Context, user, handleOf string) error {
	_, err := m.destroySessions(ctx, user, func(e entry) bool { return handle(e.ID) == handleOf }, false)
	return err
}

func (m *Manager) destroySessions(ctx context.Context, user string, which func(entry) bool, all bool) (int, error) {
	ctx = context.WithoutCancel(ctx)
	if _, _, err := m.loadIndex(ctx, user, sessionring.GetOptions{}); errors.Is(err, sessionring.ErrOwnerAway) || errors.Is(err, ErrBadData) {
		return 0, err // nothing is known of the user's sessions
	}
	done := map[string]bool{}
	_, err := m.changeIndex(ctx, user, func(ix *index) (bool, error) {
		before := len(ix.Sessions)
		var errs []error
		ix.Sessions = slices.DeleteFunc(ix.Sessions, func(e entry) bool {
			if !which(e) || done[e.ID] {
				return done[e.ID]
			}
			if err := m.client.Delete(ctx, e.ID); err != nil {
				errs = append(errs, err)
				return false
			}
			done[e.ID] = true
			return true
		})
		if all {
			ix.Epoch = rand.Text()
		}
		return all || len(ix.Sessions) < before, errors.Join(errs...)
	})
	return len(done), err
}

// cutLabel makes a label fit for an index.
func cutLabel(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), 200)], "")
}
