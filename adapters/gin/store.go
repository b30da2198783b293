// Package ginstore keeps the sessions of github.com/gin-contrib/sessions on the nodes of a sessionring Client:
// with copies, failover, and the certainty that a destroyed session stays destroyed.
//
//	router.Use(sessions.Sessions("shop", ginstore.New(client, []byte(secret))))
//
// It is the store of adapters/gorilla, with gin's options. gin only logs that a session could not be loaded, and
// goes on with an empty one; Save of that one returns the error, and nothing is written over the session that may
// exist. So look at what Save returns, or put [Require] behind Sessions.
package ginstore

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/gin-contrib/sessions"
	"github.com/gin-gonic/gin"
	gorilla "github.com/gorilla/sessions"

	"github.com/sessionring/sessionring"
	gorillastore "github.com/sessionring/sessionring/adapters/gorilla"
)

// Store is a sessions.Store of gin-contrib over a Client. Its fields are those of gorillastore.Store; like gin's
// own stores it is safe for concurrent use once they are set.
type Store struct{ *gorillastore.Store }

var _ sessions.Store = (*Store)(nil)

// New returns a Store over the Client, which stays the caller's to close. Keys come in pairs, one that signs the
// cookie and one that encrypts it, or nil; see gorillastore.New.
func New(client *sessionring.Client, keyPairs ...[]byte) *Store {
	return &Store{gorillastore.New(client, keyPairs...)}
}

// Options sets the cookie's options, and with MaxAge (seconds; 0: the Client's lifetime) how long sessions live.
func (s *Store) Options(o sessions.Options) {
	s.Store.Options = o.ToGorillaOptions()
	s.MaxAge(o.MaxAge)
}

// Get returns the request's session of the name, loaded at the first call.
func (s *Store) Get(r *http.Request, name string) (*gorilla.Session, error) {
	return gorilla.GetRegistry(r).Get(s, name)
}

// Require ends a request with 503 before its handler where the session of the name could not be asked for. It
// stands behind Sessions. A session that is not there, or a cookie that does not verify, is no reason.
func (s *Store) Require(name string) gin.HandlerFunc {
	return func(c *gin.Context) {
		if _, err := s.Get(c.Request, name); errors.Is(err, gorillastore.ErrUnavailable) {
			_ = c.AbortWithError(http.StatusServiceUnavailable, err)
		}
	}
}

// Regenerate gives a session of this store (sessions.Default(c)) another id, as a login should, and saves it; see
// gorillastore.Store.Regenerate.
func (s *Store) Regenerate(c *gin.Context, session sessions.Session) error {
	g, ok := session.(interface{ Session() *gorilla.Session })
	if !ok {
		return fmt.Errorf("ginstore: %T is not a session of gin-contrib/sessions", session)
	}
	return s.Store.Regenerate(c.Request, c.Writer, g.Session())
}
