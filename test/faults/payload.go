package faults

import (
	"bytes"
	"fmt"
	"strconv"
)

// sessionID names a session of one run. Runs use different spaces, so that they may follow one another on the same
// nodes.
func sessionID(space string, session int64) string {
	return fmt.Sprintf("%s-%010d", space, session)
}

// payload is what a write stores: whose session it is, which write it was, and filler that belongs to that write, so
// that anything else in its place is noticed.
func payload(space string, session int64, value uint64) []byte {
	head := fmt.Sprintf("%s|%x|", sessionID(space, session), value)
	size := 100 + int(value*7919%1500)
	b := make([]byte, 0, len(head)+size)
	b = append(b, head...)
	for i := range size {
		b = append(b, 'a'+byte((value+uint64(i))%26))
	}
	return b
}

// readPayload tells which write data come from; ok is false for what was never written to this session.
func readPayload(space string, session int64, data []byte) (value uint64, ok bool) {
	parts := bytes.SplitN(data, []byte("|"), 3)
	if len(parts) != 3 {
		return 0, false
	}
	value, err := strconv.ParseUint(string(parts[1]), 16, 64)
	if err != nil {
		return 0, false
	}
	return value, bytes.Equal(data, payload(space, session, value))
}
