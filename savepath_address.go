package sessionring

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// maxSocketPath is what fits into a sockaddr_un on Linux.
const maxSocketPath = 107

// isKnownScheme reports whether an entry of a list of hosts may start with s and a colon.
func isKnownScheme(s string) bool {
	switch s {
	case "tcp", "unix", "file", "redis":
		return true
	}
	return isTLSScheme(s)
}

// isTLSScheme lists PHP's names of TLS transports that a present-day server takes, and rediss.
func isTLSScheme(s string) bool {
	switch s {
	case "tls", "ssl", "rediss", "tlsv1.2", "tlsv1.3":
		return true
	}
	return false
}

// isRedisURL reports whether scheme is one of the URLs that most clients but phpredis take.
func isRedisURL(scheme string) bool { return scheme == "redis" || scheme == "rediss" }

// resolveAddress sets Network, Address and TLS. u is PHP's reading of the entry.
//
// phpredis has two ways to a server. With a host in the URL it connects to scheme://host:port. With only a path
// it takes a path that starts with a slash for a socket, and any other for host or [host]:port; the scheme is
// dropped then, and in 6.x the presence of stream[…] decides between ssl and tcp.
func (e *entry) resolveAddress(u phpURL, hasStream bool) {
	switch {
	case u.hasHost:
		e.resolveHost(u)
	case !u.hasPath:
		e.fail("it names neither host nor path", "write tcp://host:6379 or unix:///path/to/socket")
	case u.path[0] == '/':
		e.resolveSocket(u)
	default:
		e.resolvePath(u, hasStream)
	}
}

func (e *entry) resolveHost(u phpURL) {
	scheme := u.scheme
	if !u.hasScheme {
		scheme = "tcp"
	}
	lower := strings.ToLower(scheme)
	switch {
	case scheme == "file":
		e.fail("the socket's path lacks its leading slash, so that its first part is taken for a host",
			"write unix:///"+e.show(u.host+u.path)+" with three slashes")
		return
	case lower == "sentinel" || lower == "sentinel+tls":
		e.fail("a sentinel:// string stands alone and cannot be an entry of a list",
			"write the Sentinels into one: sentinel://s1:26379,s2:26379/name")
		return
	case !isKnownScheme(scheme) && isKnownScheme(lower):
		e.fail("schemes are lower case in phpredis, which cannot connect with "+scheme,
			"write "+lower+"://")
		return
	case !isKnownScheme(scheme):
		e.fail("nothing connects with the scheme "+e.show(scheme), "write tcp://, tls:// or unix:///")
		return
	}
	e.node.Network, e.node.TLS = "tcp", isTLSScheme(scheme)
	if scheme == "tlsv1.2" || scheme == "tlsv1.3" {
		e.warn(scheme + ":// is read as tls://: TLS 1.2 and 1.3 are negotiated")
	}
	if isRedisURL(scheme) {
		shared := "tcp://"
		if e.node.TLS {
			shared = "tls://"
		}
		e.warn(scheme + ":// is read by sessionring and cannot be connected to by phpredis; for a string shared with PHP write " +
			shared + " with auth= and database=")
	}
	port := u.port
	if port == 0 {
		port = DefaultPort
		if u.portText != "" || strings.HasSuffix(e.front(), ":") {
			e.warn("the port is empty or 0 and read as 6379")
		}
	} else if strconv.Itoa(port) != u.portText {
		e.warn("the port is read as " + strconv.Itoa(port))
	}
	e.setHost(u.host, port)
	if e.failed || !strings.Contains(u.host, ":") {
		return
	}
	if strings.Contains(u.host, "[") {
		e.warn("an IPv6 address in brackets works in phpredis 6, in 5.3.7 it does not connect")
	} else {
		e.warn("what follows the last colon is read as the port: " + e.node.Address + "; brackets make that plain")
	}
}

// resolveSocket takes a path that starts with a slash; the scheme, if any, is dropped.
func (e *entry) resolveSocket(u phpURL) {
	e.node.Network, e.node.Address = "unix", u.path
	switch {
	case u.path == "/":
		e.fail("/ is no socket", "write unix:///path/to/socket")
	case len(u.path) > maxSocketPath:
		e.fail(fmt.Sprintf("the socket's path has %d bytes; systems take %d", len(u.path), maxSocketPath),
			"move the socket to a shorter path")
	case strings.Contains(u.path, "://"):
		e.fail("phpredis takes what stands before :// in a path for a scheme", "write unix:///path/to/socket")
	case u.hasScheme && u.scheme != "file":
		e.warn("this is read as the socket " + e.show(u.path) + "; for a host write " + e.show(u.scheme) + "://host with two slashes")
	case strings.Contains(u.path, "%"):
		e.warn("a % in a socket's path stands for itself")
	}
}

// resolvePath takes a path that does not start with a slash: phpredis makes a TCP address of it.
func (e *entry) resolvePath(u phpURL, hasStream bool) {
	path := u.path
	if host, port, ok := strings.Cut(e.front(), ":"); ok && port != "" && leadingDigits(port, len(port)) == len(port) {
		// 127.0.0.1:6379?database=5: phpredis takes the address for a scheme and connects to the host 6379.
		// Without a query this is reached with six digits or more.
		remedy := "write tcp://" + e.show(host+":"+port)
		if u.hasQuery {
			remedy += "?" + maskQuery(e.rawQuery())
		}
		e.fail("host:port with a query needs a scheme in front: without one the host is taken for the scheme and the port for a host", remedy)
		return
	}
	if u.hasScheme {
		switch {
		case u.scheme == "file":
			e.fail("the path of a socket starts with a slash", "write unix:///path/to/socket")
			return
		case strings.ContainsAny(path, ":/"):
			e.failBare()
			return
		}
	}
	e.node.Network = "tcp"
	if strings.HasPrefix(path, "[") {
		host, rest, closed := strings.Cut(path[1:], "]")
		port := DefaultPort
		if rest != "" {
			digits := leadingDigits(rest[1:], 5)
			port, _ = strconv.Atoi(rest[1 : 1+digits]) // 0 where there is none
			if rest[0] != ':' || len(rest) != 1+digits {
				closed = false
			}
		}
		if !closed || port < 1 || port > 65535 {
			e.fail("the address in brackets is not [host]:port", "write tcp://[::1]:6379")
			return
		}
		e.setHost("["+host+"]", port)
		if !e.failed {
			e.warn("an IPv6 address in brackets works in phpredis 6, in 5.3.7 it does not connect")
		}
	} else {
		if strings.Contains(path, ":") && !isIPv6(path) || strings.ContainsAny(path, "/@=&") {
			e.failBare()
			return
		}
		e.setHost(path, DefaultPort)
	}
	if e.failed {
		return
	}
	if u.hasScheme {
		e.warn("what stands before the colon is dropped and " + e.show(e.node.Address) + " read as the address; write tcp://host:port")
	}
	if hasStream {
		e.node.TLS = true
		e.warn("phpredis 6 uses TLS for an entry without scheme that has stream[…], phpredis 5.3.7 does not; write tls://")
	}
}

// failBare refuses an entry without scheme that is neither a host nor an address.
func (e *entry) failBare() {
	remedy := e.proposal()
	if e.comma != "" {
		remedy = "write " + e.comma + ": a comma ends an entry"
	}
	e.fail("it is no host, and no address that phpredis can connect to", remedy)
}

// proposal guesses the host that an entry means, and repeats it only where it looks like one.
func (e *entry) proposal() string {
	rest := e.front()
	hidden := e.tail || e.torn || strings.Contains(rest, "@") || holdsSecret(rest)
	if i := strings.Index(rest, "://"); i >= 0 && isPHPScheme(rest[:i]) {
		rest = rest[i+3:]
	} else if scheme, after, ok := strings.Cut(rest, ":"); ok && isKnownScheme(strings.ToLower(scheme)) {
		rest = strings.TrimLeft(after, "/")
	}
	rest = strings.TrimPrefix(strings.TrimPrefix(rest, "host="), "server=")
	if isIPv6(rest) && !hidden {
		return "write tcp://[" + rest + "]"
	}
	authority, path, hasPath := strings.Cut(rest, "/")
	if hidden || authority == "" || maskAuthority(authority) != authority {
		return "write tcp://host:port, an IPv6 address in brackets"
	}
	if hasPath && path != "" && leadingDigits(path, len(path)) == len(path) {
		authority += "?database=" + path
	}
	return "write tcp://" + authority
}

// setHost checks and sets host and port. host may be in brackets.
func (e *entry) setHost(host string, port int) {
	canonical, note, problem := canonicalHost(host)
	if problem != "" {
		remedy := "write tcp://host:port, an IPv6 address in brackets"
		switch {
		case strings.ContainsAny(host, ";|"):
			remedy = "part entries by a comma or a blank"
		case strings.Contains(host, "=") || isIPv6(strings.TrimPrefix(e.front(), "tcp://")):
			remedy = e.proposal()
		case strings.Contains(host, ":") && !strings.Contains(host, "["):
			problem = "it has more than one colon and is no IPv6 address"
		}
		e.fail(problem, remedy)
		return
	}
	if note != "" {
		e.warn(note)
	}
	e.node.Address = joinHostPort(canonical, port)
}

func joinHostPort(host string, port int) string {
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + strconv.Itoa(port)
}

func isIPv6(s string) bool {
	a, err := netip.ParseAddr(s)
	return err == nil && a.Is6()
}

// canonicalHost returns the host without brackets, numbers in their usual form. note tells of a surprising
// reading, problem why it can never be connected to; neither repeats the host, but for the number it became.
func canonicalHost(host string) (canonical, note, problem string) {
	inner, bracketed := host, false
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		inner, bracketed = host[1:len(host)-1], true
	}
	if strings.Contains(inner, ":") {
		a, err := netip.ParseAddr(inner)
		if err != nil || !isHostName(a.Zone(), true) && a.Zone() != "" {
			return "", "", "the host is no IPv6 address"
		}
		return a.String(), "", ""
	}
	if a, ok := parseIPv4(inner); ok {
		if a != inner {
			note = "the host is a number and read as the address " + a
		}
		return a, note, ""
	}
	switch {
	case inner == "":
		return "", "", "the host is missing"
	case !isHostName(inner, false):
		return "", "", "the host is no host name: letters, digits, dots, hyphens and underscores make one, 63 bytes a part and 253 in all"
	case looksNumeric(inner):
		return "", "", "the host is no IPv4 address"
	}
	if bracketed {
		note = "the brackets around a host name are dropped"
	}
	return inner, note, ""
}

// isHostName is glibc's check of a host name (res_hnok), with DNS's limits. A zone needs no parts.
func isHostName(s string, zone bool) bool {
	if len(s) > 253 || s == "" || s[0] == '-' && !zone {
		return false
	}
	part := 0
	for i := range len(s) {
		switch c := s[i]; {
		case isAlnum(c) || c == '-' || c == '_':
			part++
		case c == '.' && (part > 0 || zone):
			part = 0
		default:
			return false
		}
		if part > 63 {
			return false
		}
	}
	return true
}

// looksNumeric reports whether the last part of a name is a number: no such name can be in DNS.
func looksNumeric(s string) bool {
	last := s[strings.LastIndexByte(s, '.')+1:]
	return last != "" && leadingDigits(last, len(last)) == len(last)
}

// parseIPv4 reads what C's inet_aton reads: one to four numbers, decimal, octal with a leading 0 or
// hexadecimal with 0x, the last of which fills the rest of the address.
func parseIPv4(s string) (string, bool) {
	parts := strings.SplitN(s, ".", 5)
	if len(parts) > 4 {
		return "", false
	}
	var address uint64
	for i, part := range parts {
		if part == "" || !isDigit(part[0]) {
			return "", false
		}
		base := 10
		switch {
		case len(part) > 1 && part[0] == '0' && part[1]|0x20 == 'x':
			base, part = 16, part[2:]
		case len(part) > 1 && part[0] == '0':
			base = 8
		}
		n, err := strconv.ParseUint(part, base, 32)
		if err != nil {
			return "", false
		}
		bits := 8
		if i == len(parts)-1 {
			bits = 8 * (5 - len(parts))
		}
		if n >= 1<<bits {
			return "", false
		}
		address = address<<bits | n
	}
	return netip.AddrFrom4([4]byte{byte(address >> 24), byte(address >> 16), byte(address >> 8), byte(address)}).String(), true
}
