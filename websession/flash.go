package websession

import "slices"

// maxFlashes bounds the messages that wait in a session; the oldest are dropped.
const maxFlashes = 50

// Flash is a message for the next page that shows messages.
type Flash struct {
	Kind string `json:"kind,omitempty" php:"kind,omitempty"` // the application's own: success, error, …
	Text string `json:"text" php:"text"`
}

// AddFlash leaves a message for the next request that asks for Flashes. Messages that two requests add at
// once are both kept. At most 50 wait.
func (s *Session) AddFlash(kind, text string) error {
	return s.change(func() (bool, error) {
		list := flashes(s.values)
		list = append(list, Flash{kind, text})
		return s.values.put(flashKey, list[max(0, len(list)-maxFlashes):])
	})
}

// Flashes returns the messages that wait, and takes them out.
func (s *Session) Flashes() (list []Flash, err error) {
	err = s.use(func() error {
		if !s.values.has(flashKey) {
			return nil // also where the session is read-only
		}
		switch {
		case s.readOnly != nil:
			return s.readOnly
		case s.gone != nil:
			return s.gone
		}
		list = flashes(s.values)
		s.dirty = s.values.delete(flashKey) || s.dirty
		return nil
	})
	return list, err
}

// flashes reads the list; what is not of the form counts as none.
func flashes(v values) []Flash {
	var list []Flash
	if _, err := v.get(flashKey, &list); err != nil {
		return nil
	}
	return list
}

// mergeFlashes puts into theirs what mine added to base, and takes out what it took.
func mergeFlashes(base, mine, theirs values) error {
	if mine.same(flashKey, base) {
		return nil
	}
	before, now, list := flashes(base), flashes(mine), flashes(theirs)
	for _, f := range before {
		if i := slices.Index(now, f); i >= 0 {
			now = slices.Delete(now, i, i+1) // still there: not added
		} else if i := slices.Index(list, f); i >= 0 {
			list = slices.Delete(list, i, i+1)
		}
	}
	list = append(list, now...)
	if len(list) == 0 {
		theirs.delete(flashKey)
		return nil
	}
	_, err := theirs.put(flashKey, list[max(0, len(list)-maxFlashes):])
	return err
}
