package phpweb

import (
	"fmt"

	"github.com/sessionring/sessionring/phpsession"
)

// WithLaravel changes a session as Laravel's Redis store keeps it: a serialized string that holds a serialized
// array.
func WithLaravel(stored []byte, edit func(*phpsession.Session) error) ([]byte, error) {
	v, err := phpsession.DecodeValue(phpsession.PHPSerialize, stored)
	if err != nil {
		return nil, err
	}
	inner, ok := v.(phpsession.String)
	if !ok {
		return nil, fmt.Errorf("not a session of Laravel's Redis store: a %T", v)
	}
	s, err := phpsession.Decode(phpsession.PHPSerialize, []byte(inner))
	if err != nil {
		return nil, err
	}
	if err := edit(s); err != nil {
		return nil, err
	}
	data, err := s.Encode(phpsession.PHPSerialize)
	if err != nil {
		return nil, err
	}
	return phpsession.EncodeValue(phpsession.PHPSerialize, phpsession.String(data))
}
