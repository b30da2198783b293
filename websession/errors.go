package websession

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/sessionring/sessionring"
)

// What using a session can end with, besides the errors of sessionring. Match them with errors.Is.
var (
	// ErrNoSession: the request did not come through Manager.Wrap.
	ErrNoSession = errors.New("websession: the request has no session: wrap its handler with Manager.Wrap")
	// ErrReadOnly: the session cannot be changed in this request: a read-only handler, the lock not had, or
	// the store away (with what went wrong, if something did).
	ErrReadOnly = errors.New("websession: session is read-only")
	// ErrGone: the session was destroyed, or ended, while this request ran. Nothing revives it.
	ErrGone = errors.New("websession: session ended while the request ran")
	// ErrCommitted: the response has begun, so no cookie can be sent for a new id any more.
	ErrCommitted = errors.New("websession: response has begun, a new session cannot be told to the client")
	// ErrBadData: the stored bytes are no session of the codec in use. See DataError.
	ErrBadData = errors.New("websession: unreadable session data")
	// ErrTooLarge: the session is over Options.MaxBytes. See SizeError.
	ErrTooLarge = errors.New("websession: session too large")
	// ErrKey: a value's name is empty, reserved (_sessionring…), or cannot be written by the codec.
	ErrKey = errors.New("websession: bad key")
	// ErrType: a value does not fit the Go type asked for, or cannot be written by the codec.
	ErrType = errors.New("websession: value does not fit")
	// ErrCodec: the call is for another codec.
	ErrCodec = errors.New("websession: not with this codec")
	// ErrDetached: base, mine and theirs of a merge are values only: not saved, destroyed or regenerated.
	ErrDetached = errors.New("websession: not the session of a request")
)

// DataError says why stored bytes could not be read. It holds none of them.
type DataError struct {
	Codec string
	Err   error
}

// Error names the codec and the cause.
func (e *DataError) Error() string {
	return fmt.Sprintf("%v (codec %s): %v", ErrBadData, e.Codec, e.Err)
}

// Is matches ErrBadData.
func (e *DataError) Is(target error) bool { return target == ErrBadData }

// Unwrap returns the cause.
func (e *DataError) Unwrap() error { return e.Err }

// SizeError says by how much a session is too large.
type SizeError struct{ Size, Limit int }

// Error gives both figures.
func (e *SizeError) Error() string {
	return fmt.Sprintf("%v: %d bytes, at most %d are allowed (Options.MaxBytes)", ErrTooLarge, e.Size, e.Limit)
}

// Is matches ErrTooLarge.
func (e *SizeError) Is(target error) bool { return target == ErrTooLarge }

// readOnlyError is ErrReadOnly with its cause.
type readOnlyError struct{ cause error }

func (e *readOnlyError) Error() string        { return fmt.Sprintf("%v: %v", ErrReadOnly, e.cause) }
func (e *readOnlyError) Is(target error) bool { return target == ErrReadOnly }
func (e *readOnlyError) Unwrap() error        { return e.cause }

// goneError is ErrGone with what the store said.
type goneError struct{ cause error }

func (e *goneError) Error() string {
	if e.cause == nil {
		return ErrGone.Error()
	}
	return fmt.Sprintf("%v: %v", ErrGone, e.cause)
}
func (e *goneError) Is(target error) bool { return target == ErrGone }
func (e *goneError) Unwrap() error        { return e.cause }

// Status returns the HTTP status for an error of a session: 500 where trying again would not help, else 503.
func Status(err error) int {
	for _, mine := range []error{ErrBadData, ErrTooLarge, ErrKey, ErrType, ErrNoSession, ErrCodec,
		sessionring.ErrTooLarge, sessionring.ErrID, sessionring.ErrWrongType} {
		if errors.Is(err, mine) {
			return http.StatusInternalServerError
		}
	}
	return http.StatusServiceUnavailable
}

// plainError is the default Options.ErrorHandler: plain words, and nothing of the error in them.
func plainError(w http.ResponseWriter, err error, retryAfter time.Duration) {
	status := Status(err)
	msg := "The session could not be read or saved."
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", strconv.Itoa(int((retryAfter+time.Second-1)/time.Second)))
		msg = "Your session is not available at the moment. Please try again."
		if errors.Is(err, sessionring.ErrLockHeld) {
			msg = "Another request is using your session. Please try again."
		}
	}
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, msg, status)
}
