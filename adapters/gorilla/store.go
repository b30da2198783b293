// Package gorillastore keeps the sessions of github.com/gorilla/sessions on the nodes of a sessionring Client:
// with copies, failover, and the certainty that a destroyed session stays destroyed.
//
//	store := gorillastore.New(client, []byte(os.Getenv("SESSION_KEY")))
//
// The cookie is what gorilla's own stores make: the id, signed by securecookie, and encrypted with a second key.
// Sessions that a Redis store wrote whose cookies are such, whose payload is gob and whose keys are prefix and id
// (boj/redistore: prefix=session_) go on.
package gorillastore

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"

	"github.com/sessionring/sessionring"
)

// DefaultMaxAge is that of gorilla's own stores: 30 days, in seconds.
const DefaultMaxAge = 86400 * 30

// ErrUnavailable: the nodes could not be asked for the session. It comes with the Client's error. Answer 503, or
// go on with an empty session that cannot be saved.
var ErrUnavailable = errors.New("gorillastore: the session could not be loaded")

// Store is a sessions.Store over a Client. It is safe for concurrent use once its fields are set; a session's
// Values are a plain map, as everywhere in gorilla, so goroutines of one request must take turns.
//
// A session is a new one, with IsNew and without an ID, where the cookie names none that is alive: an id that this
// store did not give out, or that was destroyed, is not taken up. Where the nodes could not be asked, Get and New
// return ErrUnavailable together with an empty session that Save refuses: the one that may exist is not written over,
// and the cookie stays as it is. A cookie that does not verify, or data that do not decode, give an error and an
// empty session that Save stores under a new id.
type Store struct {
	// Codecs sign and encrypt the cookie; the first writes, all read.
	Codecs []securecookie.Codec
	// Options of new sessions. MaxAge in seconds: the life of session and cookie; 0 is a cookie until the browser
	// ends, and a session that lives as long as the Client says; below 0, Save deletes both.
	Options *sessions.Options
	// Serializer of the values; New sets Gob.
	Serializer Serializer
	// RefuseConflicts has Save end with sessionring.ErrConflict where another request changed the session since
	// this one loaded it, instead of undoing that change. The cookie is left alone then.
	RefuseConflicts bool

	client *sessionring.Client
	known  origins
}

var _ sessions.Store = (*Store)(nil)

// New returns a Store over the Client, which stays the caller's to close. Keys come in pairs as in
// sessions.NewCookieStore: one that signs (32 or 64 bytes), and one that encrypts (16, 24 or 32 bytes, or nil);
// older pairs behind newer ones still verify. The cookie is HttpOnly, SameSite=Lax, for all paths, and lives 30
// days; set Options.Secure where the site has TLS.
func New(client *sessionring.Client, keyPairs ...[]byte) *Store {
	s := &Store{
		Codecs:     securecookie.CodecsFromPairs(keyPairs...),
		Options:    &sessions.Options{Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode},
		Serializer: Gob{},
		client:     client,
	}
	s.MaxAge(DefaultMaxAge)
	return s
}

// MaxAge sets Options.MaxAge, in seconds, and until when the codecs take a cookie's signature for valid. For
// MaxAge 0 that is the codecs' own 30 days.
func (s *Store) MaxAge(age int) {
	s.Options.MaxAge = age
	valid := age
	if age <= 0 {
		valid = DefaultMaxAge
	}
	for _, c := range s.Codecs {
		if sc, ok := c.(*securecookie.SecureCookie); ok {
			sc.MaxAge(valid)
		}
	}
}

// Get returns the request's session of the name, loaded at the first call.
func (s *Store) Get(r *http.Request, name string) (*sessions.Session, error) {
	return sessions.GetRegistry(r).Get(s, name)
}

// maxCookies of one name are tried: paths and domains give a browser several, and dead ones among them.
const maxCookies = 4

// New loads the session of the name anew. The session is never nil.
func (s *Store) New(r *http.Request, name string) (*sessions.Session, error) {
	session := s.empty(name)
	var unread error
	for i, c := range r.CookiesNamed(name) {
		if i == maxCookies {
			break
		}
		var id string
		if err := securecookie.DecodeMulti(name, c.Value, &id, s.Codecs...); err != nil {
			unread = errors.Join(unread, err)
			continue
		}
		it, err := s.client.Load(r.Context(), id, sessionring.GetOptions{})
		switch {
		case absent(err):
			continue
		case err != nil:
			err = fmt.Errorf("%w: %w", ErrUnavailable, err)
			session = s.empty(name)
			s.known.set(session, origin{err: err})
			return session, err
		}
		if err := s.Serializer.Deserialize(it.Data, session); err != nil {
			unread = errors.Join(unread, fmt.Errorf("gorillastore: reading a session: %w", err))
			session = s.empty(name)
			continue
		}
		session.ID, session.IsNew = id, false
		s.known.set(session, origin{version: it.Version, loaded: true})
		return session, nil
	}
	return session, unread
}

func (s *Store) empty(name string) *sessions.Session {
	session := sessions.NewSession(s, name)
	opts := *s.Options
	session.Options = &opts
	session.IsNew = true
	return session
}

// absent: there is surely no session.
func absent(err error) bool {
	return errors.Is(err, sessionring.ErrNotFound) && !errors.Is(err, sessionring.ErrOwnerAway) ||
		errors.Is(err, sessionring.ErrID) || // such an id was never given out
		errors.Is(err, sessionring.ErrWrongType) // a key of somebody else
}

// Save stores the session and sets its cookie, or deletes both where Options.MaxAge is below 0. With an error the
// response is left as it is. sessionring.ErrDestroyed: another request ended the session, and so it stays.
// The save goes on when the client hangs up: what the handler did is done.
func (s *Store) Save(r *http.Request, w http.ResponseWriter, session *sessions.Session) error {
	from := s.known.get(session)
	if from.err != nil {
		return from.err
	}
	ctx := context.WithoutCancel(r.Context())
	if session.Options.MaxAge < 0 {
		return s.delete(ctx, w, session)
	}
	data, err := s.Serializer.Serialize(session)
	if err != nil {
		return fmt.Errorf("gorillastore: writing a session: %w", err)
	}
	if session.ID == "" {
		session.ID = newID()
		from = origin{}
	}
	cookie, err := s.cookie(session)
	if err != nil {
		return err
	}
	opt := sessionring.SetOptions{Lifetime: s.lifetime(session)}
	if s.RefuseConflicts && from.loaded {
		opt.IfVersion = &from.version
	}
	version, err := s.client.Store(ctx, session.ID, data, opt)
	if err != nil {
		return err
	}
	s.known.set(session, origin{version: version, loaded: true})
	http.SetCookie(w, cookie)
	return nil
}

func (s *Store) cookie(session *sessions.Session) (*http.Cookie, error) {
	value, err := securecookie.EncodeMulti(session.Name(), session.ID, s.Codecs...)
	if err != nil {
		return nil, err
	}
	return sessions.NewCookie(session.Name(), value, session.Options), nil
}

func (s *Store) lifetime(session *sessions.Session) time.Duration {
	if session.Options.MaxAge > 0 {
		return min(time.Duration(session.Options.MaxAge), sessionring.MaxLifetime/time.Second) * time.Second
	}
	return s.client.Lifetime()
}

// delete ends a session. A later Save in the same request makes a new one.
func (s *Store) delete(ctx context.Context, w http.ResponseWriter, session *sessions.Session) error {
	if session.ID != "" {
		if err := s.client.Delete(ctx, session.ID); err != nil {
			return err
		}
		session.ID = ""
		s.known.set(session, origin{})
	}
	http.SetCookie(w, sessions.NewCookie(session.Name(), "", session.Options))
	return nil
}

// Regenerate gives the session another id, as a login should: it is saved under the new id, and the old one is
// destroyed, whoever knows it. Values set before are saved too. With an error the session has its old id.
func (s *Store) Regenerate(r *http.Request, w http.ResponseWriter, session *sessions.Session) error {
	old, from := session.ID, s.known.get(session)
	if old == "" || from.err != nil {
		return s.Save(r, w, session)
	}
	ctx := context.WithoutCancel(r.Context())
	back := func(err error) error {
		if session.ID != old {
			_ = s.client.Delete(ctx, session.ID)
		}
		session.ID = old
		s.known.set(session, from)
		return err
	}
	session.ID = newID()
	data, err := s.Serializer.Serialize(session)
	if err != nil {
		return back(fmt.Errorf("gorillastore: writing a session: %w", err))
	}
	cookie, err := s.cookie(session)
	if err != nil {
		return back(err)
	}
	opt := sessionring.SetOptions{Lifetime: s.lifetime(session)}
	version, err := s.client.Store(ctx, session.ID, data, opt)
	if err != nil {
		return back(err)
	}
	// A session that was logged out meanwhile must not live on under another id; the store refuses this write then.
	if s.RefuseConflicts && from.loaded {
		opt.IfVersion = &from.version
	}
	if _, err := s.client.Store(ctx, old, data, opt); err != nil {
		return back(err)
	}
	if err := s.client.Delete(ctx, old); err != nil {
		return back(err)
	}
	s.known.set(session, origin{version: version, loaded: true})
	http.SetCookie(w, cookie)
	return nil
}

// newID is 256 random bits in base32, as gorilla's own stores write them.
func newID() string {
	b := make([]byte, 32)
	rand.Read(b) // never fails
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b)
}
