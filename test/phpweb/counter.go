package phpweb

import (
	"fmt"
	"net/http"

	"github.com/sessionring/sessionring"
	"github.com/sessionring/sessionring/phpsession"
	"github.com/sessionring/sessionring/websession"
)

// Open opens the nodes of PHP's session.save_path, in PHP's layout.
func Open(savePath string) (*sessionring.Client, error) {
	return sessionring.Open(savePath,
		sessionring.WithDistribution(sessionring.PHPRedis),
		sessionring.WithLenient(), // what PHP ignores in the string is a warning, no error
	)
}

// Sessions are PHP's sessions, in the form that session.serialize_handler names.
func Sessions(client *sessionring.Client, handler phpsession.Handler, locking websession.LockMode) (*websession.Manager, error) {
	return websession.New(client, websession.Options{
		Codec: websession.PHP(handler), // the cookie is PHPSESSID then
		Lock:  locking,
	})
}

// Counter counts the visits of a session, as counter.php does.
func Counter(w http.ResponseWriter, r *http.Request) {
	session := websession.Get(r)
	visits, err := websession.Value[int](session, "visits")
	if err == nil {
		visits++
		err = websession.Put(session, "visits", visits)
	}
	if err != nil {
		http.Error(w, "the counter is away", websession.Status(err))
		return
	}
	fmt.Fprint(w, visits)
}

// Pages are Go's half of the application; the manager's Wrap goes around them.
func Pages() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /counter", Counter)
	mux.HandleFunc("POST /login", Login)
	mux.HandleFunc("POST /logout", Logout)
	mux.HandleFunc("POST /german", German)
	return mux
}
