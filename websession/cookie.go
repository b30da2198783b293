package websession

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/sessionring/sessionring"
)

// maxCandidates is how many cookies of the session's name are tried: browsers send several where domains or
// paths overlap, and each costs a read.
const maxCandidates = 4

// SecureMode says when the cookie has the Secure attribute.
type SecureMode int

const (
	SecureOnTLS  SecureMode = iota // when the request came over TLS; behind a proxy that ends TLS use SecureAlways
	SecureAlways                   // browsers then neither store nor send it over plain HTTP, except for localhost
	SecureNever
)

// Cookie is the cookie that carries the session id.
type Cookie struct {
	// Name; empty: PHPSESSID with a PHP codec, else "session". A name that starts with __Host- has browsers
	// refuse the cookie unless it is Secure, has Path / and no Domain, which keeps neighbouring subdomains from
	// planting one: the best choice where all of the site is on HTTPS. __Secure- asks for Secure only.
	Name string
	// Domain; empty: the host alone, without its subdomains.
	Domain string
	// Path; empty: "/".
	Path string
	// Secure; zero: on TLS.
	Secure SecureMode
	// ScriptsMayRead leaves out HttpOnly.
	ScriptsMayRead bool
	// SameSite; zero: Lax. http.SameSiteDefaultMode leaves the attribute out.
	SameSite http.SameSite
	// Partitioned keeps one cookie jar a top-level site (CHIPS). It asks for Secure.
	Partitioned bool
	// Persistent cookies outlive the browser's window, as long as the session does (Max-Age is IdleTimeout,
	// sent again whenever the session's life is extended).
	Persistent bool
}

// complete checks the cookie and fills in what is zero.
func (c *Cookie) complete(php bool) error {
	if c.Name == "" {
		c.Name = "session"
		if php {
			c.Name = "PHPSESSID"
		}
	}
	setDefault(&c.Path, "/")
	setDefault(&c.SameSite, http.SameSiteLaxMode)
	bad := func(format string, args ...any) error {
		return fmt.Errorf("websession: cookie %q: %s", c.Name, fmt.Sprintf(format, args...))
	}
	never := func(what string) error {
		if c.Secure == SecureNever {
			return bad("%s needs Secure; browsers refuse it otherwise", what)
		}
		c.Secure = SecureAlways
		return nil
	}
	// Browsers compare the prefixes without regard to case (RFC 6265bis, section 4.1.3).
	switch lower := strings.ToLower(c.Name); {
	case strings.HasPrefix(lower, "__host-"):
		if c.Domain != "" {
			return bad("the prefix __Host- allows no Domain; leave it empty")
		}
		if c.Path != "/" {
			return bad("the prefix __Host- allows no Path but /")
		}
		if err := never("the prefix __Host-"); err != nil {
			return err
		}
	case strings.HasPrefix(lower, "__secure-"):
		if err := never("the prefix __Secure-"); err != nil {
			return err
		}
	}
	if c.SameSite == http.SameSiteNoneMode {
		if err := never("SameSite=None"); err != nil {
			return err
		}
	}
	if c.Partitioned {
		if err := never("Partitioned"); err != nil {
			return err
		}
	}
	if c.Secure < SecureOnTLS || c.Secure > SecureNever || c.SameSite < 0 || c.SameSite > http.SameSiteNoneMode {
		return bad("unknown value of Secure or SameSite")
	}
	if err := (&http.Cookie{Name: c.Name, Value: "x", Domain: c.Domain, Path: c.Path, Secure: true, Partitioned: c.Partitioned}).Valid(); err != nil {
		return bad("%v", err)
	}
	return nil
}

// makeCookie returns the cookie for a response to r; id "" expires it.
func (m *Manager) makeCookie(secure bool, id string) *http.Cookie {
	c := m.opt.Cookie
	out := &http.Cookie{
		Name: c.Name, Value: id, Domain: c.Domain, Path: c.Path,
		Secure:   c.Secure == SecureAlways || c.Secure == SecureOnTLS && secure,
		HttpOnly: !c.ScriptsMayRead, SameSite: c.SameSite, Partitioned: c.Partitioned,
	}
	switch {
	case id == "":
		out.MaxAge, out.Expires = -1, time.Unix(1, 0)
	case c.Persistent:
		out.MaxAge = max(1, int(m.opt.IdleTimeout/time.Second))
		out.Expires = time.Now().Add(m.opt.IdleTimeout)
	}
	if m.opt.Codec.php {
		out.Value = url.QueryEscape(id) // as PHP does: the comma of its ids
	}
	return out
}

// candidates returns what the request's cookies say that its id is, in their order: browsers send the one of
// the longest path first, but nothing about domains is promised.
func (m *Manager) candidates(r *http.Request) []string {
	var ids []string
next:
	for _, c := range r.CookiesNamed(m.opt.Cookie.Name) {
		id := c.Value
		if m.opt.Codec.php {
			if u, err := url.QueryUnescape(id); err == nil {
				id = u
			}
		}
		if sessionring.CheckID(id) != nil || strings.HasPrefix(id, indexMark) {
			continue
		}
		for _, have := range ids {
			if have == id {
				continue next
			}
		}
		if ids = append(ids, strings.Clone(id)); len(ids) == maxCandidates {
			break
		}
	}
	return ids
}

// IDFormat is PHP's form of session ids. The zero value is 256 random bits: 43 characters of base64url, or
// with a PHP codec 52 characters of five bits.
type IDFormat struct {
	Length      int // characters, 22 to 256, as session.sid_length
	BitsPerChar int // 4 (0-9a-f), 5 (0-9a-v) or 6 (0-9a-zA-Z-,), as session.sid_bits_per_character
}

// alphabet of PHP's bin_to_readable (ext/session/session.c).
const alphabet = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-,"

func (f IDFormat) complete(php bool) (IDFormat, error) {
	if f == (IDFormat{}) {
		if php {
			f = IDFormat{52, 5}
		}
		return f, nil
	}
	switch {
	case f.BitsPerChar < 4 || f.BitsPerChar > 6:
		return f, fmt.Errorf("websession: ID: BitsPerChar is %d, PHP knows 4, 5 and 6", f.BitsPerChar)
	case f.Length < 22 || f.Length > 256:
		return f, fmt.Errorf("websession: ID: Length is %d, PHP allows 22 to 256", f.Length)
	case f.Length*f.BitsPerChar < 128:
		return f, fmt.Errorf("websession: ID: %d characters of %d bits are %d bits, which can be guessed; at least 128 are wanted",
			f.Length, f.BitsPerChar, f.Length*f.BitsPerChar)
	}
	return f, nil
}

// newID returns a fresh id.
func (f IDFormat) newID() string {
	if f.Length == 0 {
		var b [32]byte
		_, _ = rand.Read(b[:]) // never fails: it would have ended the process
		return base64.RawURLEncoding.EncodeToString(b[:])
	}
	b := make([]byte, f.Length)
	_, _ = rand.Read(b)
	for i, x := range b {
		b[i] = alphabet[x&(1<<f.BitsPerChar-1)]
	}
	return string(b)
}

// sendCookie puts the session's cookie into the response's headers.
func (m *Manager) sendCookie(h http.Header, c *http.Cookie) {
	h.Add("Set-Cookie", c.String())
	// A shared cache must not give one user's cookie to another (RFC 9111, section 5.2.2.4).
	h.Add("Cache-Control", `no-cache="Set-Cookie"`)
}

// varyByCookie tells caches that the response depends on the cookie.
func varyByCookie(h http.Header) {
	for _, line := range h.Values("Vary") {
		for _, name := range strings.Split(line, ",") {
			if name = strings.TrimSpace(name); name == "*" || strings.EqualFold(name, "Cookie") {
				return
			}
		}
	}
	h.Add("Vary", "Cookie")
}
