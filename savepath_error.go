package sessionring

import (
	"errors"
	"fmt"
	"strings"
)

// ErrSavePath matches, with errors.Is, every error that ParseSavePath returns.
var ErrSavePath = errors.New("sessionring: bad save_path")

// SavePathError holds everything that is wrong with a save_path, in order of the offsets.
// Passwords are masked in all of it.
type SavePathError struct {
	Entries []EntryError // one or more
}

// EntryError is one thing wrong with one entry.
type EntryError struct {
	Offset  int    // byte offset of the entry in the string
	Index   int    // position among the entries from 0, -1 where it concerns the string as a whole
	Entry   string // the entry, passwords masked, unprintable bytes escaped, cut when long; may be "" with Index -1
	Problem string // what is wrong
	Remedy  string // how to mend it
}

// Error names every bad entry with its offset, what is wrong and how to mend it, a line each.
func (e *SavePathError) Error() string {
	var b strings.Builder
	b.WriteString(ErrSavePath.Error())
	separator := ": "
	if len(e.Entries) > 1 {
		separator = "\n\t"
	}
	for _, entry := range e.Entries {
		b.WriteString(separator)
		b.WriteString(entry.Error())
	}
	return b.String()
}

// Is makes errors.Is(err, ErrSavePath) true.
func (e *SavePathError) Is(target error) bool { return target == ErrSavePath }

// Error is one line.
func (e EntryError) Error() string {
	if e.Entry == "" {
		return fmt.Sprintf("%s; %s", e.Problem, e.Remedy)
	}
	return fmt.Sprintf("offset %d, %s: %s; %s", e.Offset, e.Entry, e.Problem, e.Remedy)
}

// String is one line: offset, entry, message.
func (w Warning) String() string {
	return fmt.Sprintf("offset %d, %s: %s", w.Offset, w.Entry, w.Message)
}
