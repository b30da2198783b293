//go:build !linux

package main

import (
	"errors"
	"runtime"

	"github.com/sessionring/sessionring/internal/redistest"
)

// pin cannot be done here; the tables say so.
func pin([]*redistest.Server) (release func() error, err error) {
	return nil, errors.New("not possible on " + runtime.GOOS)
}
