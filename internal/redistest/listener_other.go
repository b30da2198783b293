//go:build !linux

package redistest

import "errors"

func listenDeaf(string) (*listener, error) {
	return nil, errors.New("redistest: ignoring connections needs Linux")
}
