package sessionring

import "strings"

// phpURL is what PHP's parse_url makes of one entry. A has… field tells a part that is missing from an empty one.
type phpURL struct {
	scheme, user, pass, host, path, query, fragment string

	hasScheme, hasUser, hasPass, hasHost, hasPath, hasQuery, hasFragment bool

	port     int    // 0 when there is none, and when it is written as 0
	portText string // as written, "" when there is none
}

// parsePHPURL follows php_url_parse_ex2 of PHP 8 (ext/standard/url.c) step by step, for which shape of string
// has a host, which only a path and which is refused decides where phpredis connects. It is not RFC 3986, and
// net/url answers otherwise for most of the odd ones. ok is false where PHP returns false.
func parsePHPURL(s string) (u phpURL, ok bool) {
	colon := strings.IndexByte(s, ':')
	slashes := strings.HasPrefix(s, "//")
	host := -1 // where the authority starts, -1: there is none

	switch {
	case colon > 0 && isPHPScheme(s[:colon]):
		rest := s[colon+1:]
		switch {
		case rest == "":
			u.setScheme(s[:colon])
			return u, true
		case rest[0] != '/':
			if digits := leadingDigits(rest, 6); digits < 6 && (digits == len(rest) || rest[digits] == '/') {
				// example.com:80 or example.com:80/x. (At least one digit: "x:/" was sorted out above.)
				if !u.setPort(rest[:digits]) {
					return u, false
				}
				host = 0
				break
			}
			u.setScheme(s[:colon])
			return u, u.setPath(rest)
		default:
			u.setScheme(s[:colon])
			if !strings.HasPrefix(rest, "//") {
				return u, u.setPath(rest)
			}
			rest = rest[2:]
			if strings.EqualFold(u.scheme, "file") && strings.HasPrefix(rest, "/") {
				if len(rest) > 2 && rest[2] == ':' { // PHP takes file:///c:/x for a Windows drive
					rest = rest[1:]
				}
				return u, u.setPath(rest)
			}
			host = colon + 3
		}
	case colon >= 0 && (colon == 0 || portMayFollow(s, colon)):
		// No scheme: is it a port that follows the colon?
		rest := s[colon+1:]
		digits := leadingDigits(rest, 6)
		switch {
		case digits > 0 && digits < 6 && (digits == len(rest) || rest[digits] == '/'):
			if !u.setPort(rest[:digits]) {
				return u, false
			}
			host = 0
		case rest == "":
			return u, false
		case !slashes:
			return u, u.setPath(s)
		}
		if slashes {
			host = 2
		}
	case slashes:
		host = 2
	default:
		return u, u.setPath(s)
	}

	authority, rest := s[host:], ""
	if end := strings.IndexAny(authority, "/?#"); end >= 0 {
		authority, rest = authority[:end], authority[end:]
	}
	if !u.setAuthority(authority) {
		return u, false
	}
	return u, rest == "" || u.setPath(rest)
}

// isPHPScheme reports whether s is made of the bytes that PHP allows in a scheme.
func isPHPScheme(s string) bool {
	for i := range len(s) {
		if c := s[i]; !isAlnum(c) && c != '+' && c != '.' && c != '-' {
			return false
		}
	}
	return true
}

// portMayFollow is PHP's test for the first colon of a string without a scheme: something follows it, and it
// stands before any query or fragment.
func portMayFollow(s string, colon int) bool {
	if colon+1 == len(s) {
		return false
	}
	end := strings.IndexAny(s, "?#")
	return end < 0 || colon < end
}

func (u *phpURL) setScheme(s string) { u.scheme, u.hasScheme = replaceControls(s), true }

// setPort takes one to five digits; ok is false above 65535.
func (u *phpURL) setPort(digits string) bool {
	n := 0
	for i := range len(digits) {
		n = n*10 + int(digits[i]-'0')
	}
	u.port, u.portText = n, digits
	return n <= 65535
}

// setAuthority takes user:pass@host:port.
func (u *phpURL) setAuthority(s string) bool {
	if at := strings.LastIndexByte(s, '@'); at >= 0 {
		u.user, u.pass, u.hasPass = strings.Cut(s[:at], ":")
		u.hasUser = true
		s = s[at+1:]
	}
	host := s
	if colon := strings.LastIndexByte(s, ':'); colon >= 0 && (s[0] != '[' || s[len(s)-1] != ']') {
		host = s[:colon]
		if u.port == 0 {
			text := s[colon+1:]
			if len(text) > 5 {
				return false
			}
			// C's strtol: sign and digits, the tail ignored. An empty text leaves the default.
			if n, any := strtolPort(text); text != "" {
				if !any || n < 0 || n > 65535 {
					return false
				}
				u.port = n
			}
			u.portText = text
		}
	}
	u.host, u.hasHost = replaceControls(host), true
	return host != ""
}

// setPath takes path?query#fragment; an empty path is none. It always succeeds.
func (u *phpURL) setPath(s string) bool {
	s, fragment, hasFragment := strings.Cut(s, "#")
	s, query, hasQuery := strings.Cut(s, "?")
	u.fragment, u.hasFragment = replaceControls(fragment), hasFragment
	u.query, u.hasQuery = replaceControls(query), hasQuery
	u.path, u.hasPath = replaceControls(s), s != ""
	return true
}

// strtolPort reads at most five bytes as C's strtol does; any is false where it finds no number.
func strtolPort(s string) (n int, any bool) {
	s = strings.TrimLeft(s, " \t\n\v\f\r")
	negative := strings.HasPrefix(s, "-")
	if negative || strings.HasPrefix(s, "+") {
		s = s[1:]
	}
	digits := leadingDigits(s, len(s))
	for i := range digits {
		n = n*10 + int(s[i]-'0')
	}
	if negative {
		n = -n
	}
	return n, digits > 0
}

// leadingDigits counts the decimal digits that s starts with, up to limit.
func leadingDigits(s string, limit int) int {
	n := 0
	for n < len(s) && n < limit && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}

// replaceControls puts an underscore for every control byte, as PHP does in every part but user and password.
func replaceControls(s string) string {
	if strings.IndexFunc(s, isControl) < 0 {
		return s
	}
	b := []byte(s)
	for i, c := range b {
		if isControl(rune(c)) {
			b[i] = '_'
		}
	}
	return string(b)
}

func isControl(r rune) bool { return r < 0x20 || r == 0x7f }

func isAlnum(c byte) bool { return isDigit(c) || isLetter(c) }
func isDigit(c byte) bool { return c >= '0' && c <= '9' }
func isLetter(c byte) bool {
	c |= 0x20
	return c >= 'a' && c <= 'z'
}

// isSpace is C's isspace in the C locale: what parts the entries, next to the comma.
func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }
