package sessionring

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// What is shown of an entry is built up from what is known to be public. A password may stand anywhere: in
// the user part of a URL, in a misspelt parameter, torn off by a comma, behind an '@' that PHP reads as
// something else. So everything that does not look like a part of a save_path is masked.

const (
	masked         = "***"
	maxShown       = 200 // bytes of an entry
	maxShownPublic = 100 // bytes of a parameter's value
)

// maskEntry returns what may be shown of an entry. tail says that the entry may be the rest of a password,
// torn that what stands where host and port belong may be the beginning of user and password.
func maskEntry(text string, tail, torn bool) string {
	if tail {
		return masked
	}
	front, query, hasQuery := strings.Cut(text, "?")
	front, fragment, hasFragment := strings.Cut(front, "#")
	if hasFragment && hasQuery { // a '?' behind the '#' belongs to the fragment
		fragment, hasQuery = fragment+"?"+query, false
	}
	shown := maskFront(front, torn || strayAt(query, hasQuery) || strings.Contains(fragment, "@"))
	switch {
	case hasFragment && fragment != "":
		shown += "#" + masked
	case hasQuery:
		shown += "?" + maskQueryBehind(query, holdsSecret(front))
	}
	return printable(shown, maxShown)
}

// maskFront masks scheme, authority and path.
func maskFront(s string, hideAuthority bool) string {
	scheme := ""
	if i := strings.Index(s, "://"); i >= 0 && i <= 16 && isPHPScheme(s[:i]) {
		scheme, s = s[:i+3], s[i+3:]
	} else if i := strings.IndexByte(s, ':'); i > 0 && isKnownScheme(strings.ToLower(s[:i])) {
		scheme, s = s[:i+1], s[i+1:]
	}
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		scheme, s = scheme+masked+"@", s[i+1:]
	}
	switch {
	case s == "":
		return scheme
	case hideAuthority || holdsSecret(s):
		return scheme + masked
	case strings.HasPrefix(s, "/"):
		if strings.HasPrefix(s, "//") { // //host:port
			return scheme + "//" + maskAuthority(s[2:])
		}
		return scheme + s
	}
	return scheme + maskAuthority(s)
}

// maskAuthority masks host:port and a path behind them, where it does not look like one.
func maskAuthority(s string) string {
	authority, path := s, ""
	if i := strings.IndexByte(s, '/'); i >= 0 {
		authority, path = s[:i], s[i:]
	}
	colons := strings.Count(authority, ":")
	for i := range len(s) {
		if c := s[i]; !isAlnum(c) && strings.IndexByte(".-_:[]/,", c) < 0 && (c != '%' || colons < 2) {
			return masked
		}
	}
	switch {
	case colons == 1:
		host, port, _ := strings.Cut(authority, ":")
		if leadingDigits(port, len(port)) != len(port) || len(port) > 5 {
			return host + ":" + masked
		}
	case colons > 1:
		address, _, _ := strings.Cut(authority, "%") // a zone may be any word
		for i := range len(address) {
			if c := address[i]; !isHex(c) && strings.IndexByte(".:[]", c) < 0 {
				return masked
			}
		}
		if address != authority && !strings.HasPrefix(authority, "[") {
			return masked
		}
	}
	return authority + path
}

// strayAt reports an '@' in a query outside the value of a known parameter: what stands before it may be a
// user's name and password, and PHP's reading of the entry nonsense.
func strayAt(query string, hasQuery bool) bool {
	if !hasQuery || !strings.Contains(query, "@") {
		return false
	}
	q := parsePHPQuery(query)
	for _, p := range q.params {
		if !isSecretParam(p) && !isPublicParam(p) && strings.Contains(p.rawName+p.rawValue, "@") {
			return true
		}
	}
	return q.cut
}

// maskQuery masks all values but those of public parameters, and names that may be the rest of a password.
func maskQuery(s string) string { return maskQueryBehind(s, false) }

// maskQueryBehind is the same for a query that follows what may be a password.
func maskQueryBehind(s string, behindSecret bool) string {
	q := parsePHPQuery(s)
	var b strings.Builder
	for i, p := range q.params {
		if i > 0 {
			b.WriteByte('&')
		}
		if b.Len() > maxShown {
			break // cut by printable
		}
		public, secret := isPublicParam(p), isSecretParam(p)
		switch {
		case public || secret || !behindSecret && showsName(p):
			b.WriteString(showName(p))
		default:
			b.WriteString(masked)
		}
		behindSecret = secret || behindSecret && !public
		if !p.hasValue {
			continue
		}
		b.WriteByte('=')
		if public && !secret {
			b.WriteString(showValue(p))
		} else {
			b.WriteString(masked)
		}
	}
	if q.cut {
		b.WriteString("&" + masked)
	}
	return b.String()
}

// showsName reports whether the name of an unknown parameter looks like one.
func showsName(p phpParam) bool {
	if p.broken {
		return isStreamOption(strings.TrimPrefix(p.name, paramStream+"_"))
	}
	return isPlainName(p.rawName)
}

// showName returns a parameter's name as PHP reads it.
func showName(p phpParam) string {
	name := p.name
	for _, key := range p.keys {
		if !isPlainName(key) && key != "" {
			key = masked
		}
		name += "[" + key + "]"
	}
	return name
}

// showValue returns the value of a public parameter as it is written, masked where it is long or looks as if
// something else had got into it (weight=2;auth=…).
func showValue(p phpParam) string { return showText(p.rawValue, p.value) }

func showText(raw, decoded string) string {
	if len(raw) > maxShownPublic || looksSecret(raw) || looksSecret(decoded) {
		return masked
	}
	return printable(raw, maxShownPublic)
}

// looksSecret reports whether a text that ought to be public may hold a password: what belongs to a URL, or
// another parameter that got in by a wrong separator.
func looksSecret(s string) bool { return strings.ContainsAny(s, "#@") || holdsSecret(s) }

// holdsSecret reports whether name=value stands in the text, with a name of a secret.
func holdsSecret(s string) bool {
	for {
		i := strings.IndexByte(s, '=')
		if i < 0 {
			return false
		}
		name := s[:i]
		if j := strings.LastIndexAny(name, ";?&"); j >= 0 {
			name = name[j+1:]
		}
		if isSecretName(name) {
			return true
		}
		s = s[i+1:]
	}
}

// isSecretName reports whether a parameter of this name may hold a password.
func isSecretName(name string) bool {
	name = strings.ToLower(name)
	for _, word := range []string{"auth", "pass", "pwd", "secret", "token", "cred", "user"} {
		if strings.Contains(name, word) {
			return true
		}
	}
	return false
}

// isSecretParam is the same with its keys (stream[passphrase]) and what PHP drops of the name.
func isSecretParam(p phpParam) bool {
	secret := isSecretName(p.name) || isSecretName(p.rawName)
	for _, key := range p.keys {
		secret = secret || isSecretName(key)
	}
	return secret
}

// isPublicParam reports whether a parameter is known, and its value no secret.
func isPublicParam(p phpParam) bool {
	switch {
	case p.name == paramStream:
		return len(p.keys) == 1 && isStreamOption(p.keys[0]) && p.keys[0] != streamPassphrase
	case p.name == paramSeed || p.name == paramFailover || p.name == paramAlias:
		return true
	}
	return !isSecretName(p.name) && isParam(p.name)
}

// isPlainName reports whether s looks like the name of a parameter.
func isPlainName(s string) bool {
	if s == "" || len(s) > 40 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !isAlnum(c) && strings.IndexByte("_.-[];", c) < 0 {
			return false
		}
	}
	return !isDigit(s[0]) || len(s) == 1
}

// printable escapes control bytes and invalid UTF-8, and cuts behind limit bytes.
func printable(s string, limit int) string {
	clean := len(s) <= limit
	for i := 0; clean && i < len(s); i++ {
		clean = s[i] >= 0x20 && s[i] < 0x7f
	}
	if clean {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		if b.Len() >= limit {
			b.WriteString("…")
			break
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size <= 1:
			b.WriteString(`\x` + strconv.FormatUint(uint64(s[i]>>4), 16) + strconv.FormatUint(uint64(s[i]&15), 16))
		case strconv.IsPrint(r):
			b.WriteString(s[i : i+size])
		default:
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		i += size
	}
	return b.String()
}
