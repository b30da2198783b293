package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/sessionring/sessionring"
)

// eachID calls f with every id: those given, and for "-" those on standard input, a line each. An id that is none
// is reported and the others go on. out, if not nil, is flushed whenever no more input is at
// hand: whoever writes an id and waits gets the answer.
func (a *app) eachID(ctx context.Context, ids []string, out *bufio.Writer, f func(id string) error) error {
	one := func(id, where string) error {
		err := sessionring.CheckID(id)
		if err == nil {
			err = f(id)
		}
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		}
		if where != "" {
			err = fmt.Errorf("%s: %w", where, err)
		}
		a.fail(ctx, err)
		return nil
	}
	read := false
	for i, id := range ids {
		if id != "-" {
			where := ""
			if len(ids) > 1 {
				where = fmt.Sprintf("id %d (%s)", i+1, shorten(id))
			}
			if err := one(id, where); err != nil {
				return err
			}
			continue
		}
		if read {
			return usagef("- stands for standard input, which can be read only once")
		}
		read = true
		in := bufio.NewReaderSize(a.in, 64<<10)
		for number, end := 1, false; !end; number++ {
			line, err := in.ReadSlice('\n')
			switch {
			case errors.Is(err, io.EOF):
				end = true
			case errors.Is(err, bufio.ErrBufferFull):
				return usagef("standard input, line %d: no session id is that long", number)
			case err != nil:
				return fmt.Errorf("standard input: %w", err)
			}
			if id := strings.TrimRight(string(line), "\r\n"); id != "" {
				if err := one(id, fmt.Sprintf("standard input, line %d", number)); err != nil {
					return err
				}
			}
			if out != nil && in.Buffered() == 0 {
				if err := out.Flush(); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// shorten masks a session id for lists and messages: who has an id is logged in.
func shorten(id string) string {
	show := min(6, len(id)/4)
	return id[:show] + "…"
}
