package phpweb

import (
	"fmt"
	"net/http"

	"github.com/sessionring/sessionring/websession"
)

// Login gives the session a new id, and says whose it is.
func Login(w http.ResponseWriter, r *http.Request) {
	session := websession.Get(r)
	err := session.Regenerate(r.Context())
	if err == nil {
		err = session.SetUser(r.FormValue("user"))
	}
	if err == nil {
		err = websession.Put(session, "user", r.FormValue("user")) // for PHP, which knows nothing of SetUser
	}
	if err != nil {
		http.Error(w, "no login now", websession.Status(err))
		return
	}
	fmt.Fprint(w, "welcome")
}

// Logout ends the session.
func Logout(w http.ResponseWriter, r *http.Request) {
	if err := websession.Get(r).Destroy(r.Context()); err != nil {
		http.Error(w, "no logout now", websession.Status(err))
	}
}
