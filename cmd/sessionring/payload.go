package main

import (
	"fmt"

	"github.com/sessionring/sessionring/phpsession"
)

// payload is what the bytes of a session look like.
type payload struct {
	handler  phpsession.Handler // "": no PHP payload
	packed   phpsession.Compression
	session  *phpsession.Session
	warnings []string
}

// readPayload decodes bytes by the handler that they look like.
func readPayload(data []byte) payload {
	var p payload
	if packed, ok := phpsession.DetectCompression(data); ok && packed != phpsession.Uncompressed {
		plain, err := phpsession.Decompress(packed, data)
		if err != nil {
			p.warnings = append(p.warnings, fmt.Sprintf("looks compressed by %s: %v", packed, err))
			return p
		}
		p.packed, data = packed, plain
	}
	handler, ok := phpsession.Detect(data)
	if !ok {
		return p
	}
	s, err := phpsession.Decode(handler, data)
	if err != nil {
		p.warnings = append(p.warnings, fmt.Sprintf("looks like handler %s, but cannot be decoded: %v", handler, err))
		return p
	}
	p.handler, p.session = handler, s
	for _, w := range s.Warnings() {
		p.warnings = append(p.warnings, w.String())
	}
	return p
}

// compression is its name, "" where there is none.
func (p payload) compression() string {
	if p.packed == phpsession.Uncompressed {
		return ""
	}
	return string(p.packed)
}
