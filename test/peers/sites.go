package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"time"

	"github.com/alexedwards/scs/goredisstore"
	"github.com/alexedwards/scs/v2"
	"github.com/boj/redistore"
	ginsessions "github.com/gin-contrib/sessions"
	ginredis "github.com/gin-contrib/sessions/redis"
	"github.com/gin-gonic/gin"
	"github.com/gorilla/sessions"
	"github.com/redis/go-redis/v9"

	"github.com/sessionring/sessionring/websession"
)

const (
	cookieName = "shop"
	value      = "data" // name of the one value in a session
)

// site is a worker whose requests go through a handler. Each goroutine has its own handler, so that the page finds the
// visit without searching a context; the manager or store below it is shared.
type site struct {
	handler http.Handler
	visit   *visit
	op      operation
}

// sites makes opened of a function that makes the handler of a site.
func sites(handler func(*site) http.Handler, closer func() error) (opened, error) {
	return opened{close: closer, worker: func() worker {
		s := &site{}
		s.handler = handler(s)
		return s
	}}, nil
}

// page does the operation with a session that is got and put; save is nil where the middleware saves. Where
// rewriting is the only way to prolong, a read puts what it got.
func (s *site) page(get func() (string, error), put func(string) error, rewrite bool, save func() error) {
	s.visit.err = func() error {
		if s.op != start {
			data, err := get()
			if err != nil {
				return err
			}
			if err := check(s.visit, data); err != nil {
				return err
			}
			if s.op == read {
				if !rewrite {
					return nil
				}
				return errors.Join(put(data), save())
			}
		}
		if err := put(s.visit.text()); err != nil || save == nil {
			return err
		}
		return save()
	}()
}

var errNoPage = errors.New("the page was not reached")

func (s *site) request(ctx context.Context, op operation, cookie string, v *visit) (*httptest.ResponseRecorder, error) {
	s.visit, s.op = v, op
	r := (&http.Request{
		Method: http.MethodGet, URL: &url.URL{Path: "/"}, Host: "localhost", RequestURI: "/",
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Body: http.NoBody,
	}).WithContext(ctx)
	if cookie != "" {
		r.Header["Cookie"] = []string{cookie}
	}
	v.err = errNoPage
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	if v.err == nil && w.Code != http.StatusOK {
		v.err = fmt.Errorf("status %d: %.80s", w.Code, w.Body)
	}
	return w, v.err
}

func (s *site) start(ctx context.Context, _ string, v *visit) (string, error) {
	w, err := s.request(ctx, start, "", v)
	if err != nil {
		return "", err
	}
	for _, c := range w.Result().Cookies() {
		return c.Name + "=" + c.Value, nil
	}
	return "", errors.New("no cookie was set")
}

func (s *site) cycle(ctx context.Context, token string, v *visit) error {
	_, err := s.request(ctx, cycle, token, v)
	return err
}

func (s *site) read(ctx context.Context, token string, v *visit) error {
	_, err := s.request(ctx, read, token, v)
	return err
}

// openWebsession prolongs at every read, as the others do; by default it would once a minute.
func openWebsession(copies int) opener {
	return func(_ context.Context, addrs []string) (opened, error) {
		c, err := newClient(addrs, copies, "web", deadline)
		if err != nil {
			return opened{}, err
		}
		m, err := websession.New(c, websession.Options{TouchInterval: -1})
		if err != nil {
			return opened{}, errors.Join(err, c.Close())
		}
		return sites(func(s *site) http.Handler {
			return m.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				session := websession.Get(r)
				s.page(
					func() (string, error) { return websession.Value[string](session, value) },
					func(data string) error { return websession.Put(session, value, data) }, false, nil)
			}))
		}, c.Close)
	}
}

// openSCS has an idle timeout, without which scs does not prolong.
func openSCS(_ context.Context, addrs []string) (opened, error) {
	client := redis.NewClient(&redis.Options{Addr: addrs[0], PoolSize: connections})
	m := scs.New()
	m.Store, m.IdleTimeout = goredisstore.New(client), lifetime
	return sites(func(s *site) http.Handler {
		return m.LoadAndSave(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			s.page(
				func() (string, error) { return m.GetString(r.Context(), value), nil },
				func(data string) error { m.Put(r.Context(), value, data); return nil }, false, nil)
		}))
	}, client.Close)
}

// signingKey signs cookies of servers that end with this process.
func signingKey() []byte { return []byte("0123456789abcdef0123456789abcdef") }

func openGorilla(_ context.Context, addrs []string) (opened, error) {
	st, err := redistore.NewRediStore(connections, "tcp", addrs[0], "", "", signingKey())
	if err != nil {
		return opened{}, err
	}
	st.SetMaxAge(int(lifetime / time.Second))
	return sites(func(s *site) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			session, err := st.Get(r, cookieName)
			if err != nil {
				s.visit.err = err
				return
			}
			s.page(
				func() (string, error) { return valueOf(session), nil },
				func(data string) error { session.Values[value] = data; return nil }, true,
				func() error { return session.Save(r, w) })
		})
	}, st.Close)
}

func valueOf(s *sessions.Session) string {
	data, _ := s.Values[value].(string)
	return data
}

func openGin(_ context.Context, addrs []string) (opened, error) {
	st, err := ginredis.NewStore(connections, "tcp", addrs[0], "", "", signingKey())
	if err != nil {
		return opened{}, err
	}
	st.Options(ginsessions.Options{Path: "/", MaxAge: int(lifetime / time.Second)})
	under, err := ginredis.GetRedisStore(st)
	if err != nil {
		return opened{}, err
	}
	return sites(func(s *site) http.Handler {
		router := gin.New()
		router.Use(ginsessions.Sessions(cookieName, st))
		router.GET("/", func(c *gin.Context) {
			session := ginsessions.Default(c)
			s.page(
				func() (string, error) { data, _ := session.Get(value).(string); return data, nil },
				func(data string) error { session.Set(value, data); return nil }, true, session.Save)
		})
		return router
	}, under.Close)
}
