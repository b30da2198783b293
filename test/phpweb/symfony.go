package phpweb

import (
	"net/http"

	"github.com/sessionring/sessionring/phpsession"
	"github.com/sessionring/sessionring/websession"
)

// German is a page beside a Symfony application: it changes one attribute and leaves a message for Symfony's next
// page, and everything else of the session as it is.
func German(w http.ResponseWriter, r *http.Request) {
	err := websession.Get(r).EditPHP(func(s *phpsession.Session) error {
		if err := s.Put("de", "_sf2_attributes", "_locale"); err != nil {
			return err
		}
		return s.Put([]string{"Ab jetzt auf Deutsch."}, "_symfony_flashes", "notice")
	})
	if err != nil {
		http.Error(w, "not now", websession.Status(err))
	}
}
