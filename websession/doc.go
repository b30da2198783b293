// Package websession keeps sessions for net/http in a [sessionring.Client]: middleware, cookie, typed values.
//
//	client, err := sessionring.Open("tcp://host1:6379, tcp://host2:6379, tcp://host3:6379")
//	manager, err := websession.New(client, websession.Options{})
//	http.ListenAndServe(":8080", manager.Wrap(mux))
//
// and in a handler
//
//	s := websession.Get(r)
//	n, err := websession.Value[int](s, "visits")
//	err = websession.Put(s, "visits", n+1)
//
// # What a request costs
//
// A request without a session cookie costs nothing until it puts a value; it gets no key and no cookie before.
// A request with one loads the session when the handler first asks for it. What did not change is not written:
// its life is extended by an EXPIRE, at most once every Options.TouchInterval. What changed is written once,
// before the first byte of the response, however that byte goes out (Write, Flush, ReadFrom, Hijack, an
// http.ResponseController, or the end of the handler).
//
// # Two requests at once
//
// By default nobody waits. A write happens only if the session still is what was loaded; if it is not, the
// keys that this request changed are put on top of the newer session, so that requests that change different
// keys lose nothing, and of one key the last writer wins. Options.Merge decides otherwise; Options.Lock lets
// requests of one session run one after another. The session is not half written: either all changes of a
// request are stored, or none.
//
// A session that was destroyed stays destroyed: a request that was still running with it cannot save it
// ([ErrGone], told to Hooks and the log, not to the user, whose cookie stays as it is). A session that only
// ran out of its idle timeout meanwhile is saved again under its id, as its user is there; in the layout
// distribution=phpredis, where the two cannot be told apart, it is not.
//
// # When Redis is away
//
// An error of the store never clears or changes a cookie, and an id that could not be asked for is neither
// adopted nor thrown away. Options.Unavailable says what the user sees meanwhile. A change that could not be
// saved turns the response into an error (503 with Retry-After) if its first byte has not gone out.
//
// # Panics
//
// When a handler panics before the first byte of its response, its changes to the session are dropped: it did
// not get to the end of what it meant to do. After the first byte they are stored already.
//
// # With PHP
//
// With [PHP] the cookie is PHPSESSID and the payload is PHP's. Values that a Go handler did not touch are
// written back as they were. What this package keeps for itself (user, creation time, flash messages) stands
// in variables whose names start with _sessionring, and only in sessions that use it.
package websession
