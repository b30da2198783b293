package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/sessionring/sessionring/phpsession"
)

const maxPayload = 512 << 20 // no session in Redis is larger

type decodeCmd struct {
	Handler string `placeholder:"php|php_binary|php_serialize|igbinary" help:"PHP's session.serialize_handler; without it, the one that the bytes look like."`
	Strict  bool   `help:"Refuse what PHP only warns of, as data behind the end."`
}

// Help is printed by --help.
func (decodeCmd) Help() string {
	return `Reads a PHP session payload from standard input and prints it as JSON, losslessly: order, types, references, objects of any class, bytes that are no text. The encode command makes the same bytes of it. Payloads that phpredis compressed (lzf, lz4) are decompressed first.

Examples:

    printf 'visits|i:7;user|s:5:"admin";' | sessionring decode
    sessionring get --raw @save_path r4t8w2y6u1i9o3p7a5 | sessionring decode --handler igbinary`
}

// Run decodes standard input.
func (c *decodeCmd) Run(_ context.Context, a *app) error {
	handler, err := parseHandler(c.Handler)
	if err != nil {
		return err
	}
	data, err := readAll(a.in, maxPayload)
	if err != nil {
		return err
	}
	limits := phpsession.WithLimits(phpsession.Limits{MaxBytes: maxPayload})
	opts := []phpsession.Option{limits}
	if c.Strict {
		opts = append(opts, phpsession.Strict())
	}
	if packed, ok := phpsession.DetectCompression(data, limits); ok && packed != phpsession.Uncompressed {
		if data, err = phpsession.Decompress(packed, data, limits); err != nil {
			return err
		}
		a.message("compressed by phpredis with %s; encode does not compress", packed)
	}
	if c.Handler == "" {
		if found, ok := phpsession.Detect(data, limits); ok {
			handler = found
			a.message("handler %s, by the look of the bytes", handler)
		}
	}
	s, err := phpsession.Decode(handler, data, opts...)
	if err != nil {
		return explainDecoding(err)
	}
	for _, w := range s.Warnings() {
		a.warn("%s", w)
	}
	out, err := s.EncodeJSON()
	if err != nil {
		return err
	}
	_, err = a.out.Write(append(out, '\n'))
	return err
}

// explainDecoding adds the remedy where the handler is the mistake.
func explainDecoding(err error) error {
	var wrong *phpsession.WrongHandlerError
	if errors.As(err, &wrong) {
		return fmt.Errorf("%w; try --handler %s", err, wrong.LooksLike)
	}
	return err
}

type encodeCmd struct {
	Handler string `placeholder:"php|php_binary|php_serialize|igbinary" default:"php" help:"PHP's session.serialize_handler (default: php)."`
}

// Help is printed by --help.
func (encodeCmd) Help() string {
	return `Reads the JSON that decode prints from standard input and writes the PHP session payload, byte for byte as PHP would, without a line feed at the end.

Examples:

    echo '{"array":[[{"string":"visits"},{"int":"7"}]]}' | sessionring encode
    sessionring decode <session.php | sessionring encode --handler igbinary | sessionring set @save_path r4t8w2y6u1i9o3p7a5`
}

// Run encodes standard input.
func (c *encodeCmd) Run(_ context.Context, a *app) error {
	handler, err := parseHandler(c.Handler)
	if err != nil {
		return err
	}
	data, err := readAll(a.in, 4*maxPayload)
	if err != nil {
		return err
	}
	limits := phpsession.WithLimits(phpsession.Limits{MaxBytes: maxPayload})
	s, err := phpsession.DecodeJSON(data, limits)
	if err != nil {
		return err
	}
	out, err := s.Encode(handler, limits)
	if err != nil {
		return err
	}
	_, err = a.out.Write(out)
	return err
}

func parseHandler(name string) (phpsession.Handler, error) {
	if name == "" {
		return phpsession.PHP, nil
	}
	h, err := phpsession.ParseHandler(name)
	if err != nil {
		return "", usagef("--handler: %v; there are %v", err, phpsession.Handlers())
	}
	return h, nil
}
