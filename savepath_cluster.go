package sessionring

import (
	"fmt"
	"strings"
)

// DefaultClusterPrefix stands before the id in the Redis Cluster form, as in phpredis's handler rediscluster.
const DefaultClusterPrefix = "PHPREDIS_CLUSTER_SESSION:"

// isCluster reports whether s is the query of handler rediscluster: name=value&…, with seed among the names,
// and no list of hosts whose query happens to hold such a name.
func isCluster(s string) bool {
	first := s
	if i := strings.IndexAny(s, "=&"); i >= 0 {
		first = s[:i]
	}
	for i := range len(first) {
		if c := first[i]; !isAlnum(c) && strings.IndexByte("_[]%.-", c) < 0 {
			return false
		}
	}
	for part := range strings.SplitSeq(s, "&") {
		name, _, _ := strings.Cut(part, "=")
		p := phpParam{}
		p.splitName(urlDecode(name, true))
		if p.name == paramSeed {
			return true
		}
	}
	return false
}

// parseCluster reads the form of handler rediscluster: the string is one query from start on.
func (p *parser) parseCluster(s string, start int) {
	p.sp.Kind = KindCluster
	text := s[start:]
	e := &entry{p: p, kind: KindCluster, index: -1, offset: start, text: text, shown: printable(maskQuery(text), maxShown)}
	e.node = Node{Weight: 1, Timeout: DefaultTimeout, ReadTimeout: DefaultReadTimeout, Database: -1, Prefix: DefaultClusterPrefix}
	e.query = parsePHPQuery(text)
	e.readParams()
	p.readSeeds(e)
}

// readSeeds makes a node of each seed. Every one has the options of the whole string.
func (p *parser) readSeeds(e *entry) {
	seeds := e.query.get(paramSeed)
	if seeds == nil || !seeds.isArray() {
		e.fail("seed is no array", "write seed[]=host:port, once for each")
		return
	}
	stream := e.query.get(paramStream)
	hasStream := stream != nil && stream.isArray()
	seen := map[string]bool{}
	before := len(p.errs)
	for _, param := range e.query.params {
		if param.name != paramSeed || len(param.keys) == 0 || seen[param.value] {
			continue
		}
		if key := param.keys[0]; key != "" && (seeds.elements[key] == nil || seeds.elements[key].str != param.value) {
			continue // overwritten
		}
		seen[param.value] = true
		seed := &entry{
			p: p, kind: KindCluster, index: len(p.sp.Nodes), offset: e.offset + param.offset, text: param.value,
			shown: printable("seed[]="+maskFront(param.value, isSecretParam(param)), maxShown), node: e.node,
		}
		if len(param.keys) > 1 {
			seed.warn("a seed that is an array is skipped, as in phpredis")
			continue
		}
		if seed.readSeed(hasStream) {
			p.sp.Nodes = append(p.sp.Nodes, seed.node)
		}
	}
	if len(p.sp.Nodes) == 0 && len(p.errs) == before {
		e.fail("no seed is of the form host:port", "write seed[]=host:port, once for each")
	}
	for _, n := range p.sp.Nodes {
		if n.TLS != p.sp.Nodes[0].TLS {
			e.fail("some seeds are reached by TLS and some are not", "write tls:// in front of every seed, or of none")
			return
		}
	}
}

// readSeed reads one seed: host:port behind an optional tcp:// or tls://. It reports whether there is a node.
func (e *entry) readSeed(hasStream bool) bool {
	scheme, rest, hasScheme := strings.Cut(e.text, "://")
	if !hasScheme {
		scheme, rest = "tcp", e.text
	}
	if scheme == "file" || scheme == "unix" || !isKnownScheme(scheme) {
		e.fail("a seed starts with tcp://, tls:// or its host", "write seed[]=host:port")
		return false
	}
	colon := strings.LastIndexByte(rest, ':')
	if colon < 0 {
		if hasScheme {
			e.fail("the seed has no port", "write seed[]="+scheme+"://host:port")
		} else {
			e.warn("a seed without port is skipped, as in phpredis; write seed[]=host:port")
		}
		return false
	}
	// C's atoi of any length: five digits are enough to tell.
	host, text := rest[:colon], strings.TrimRight(rest[colon+1:], " \t\n\v\f\r")
	port, digits := 0, leadingDigits(text, 6)
	for i := range digits {
		port = port*10 + int(text[i]-'0')
	}
	switch {
	case digits != len(text) || port > 65535:
		remedy := "write seed[]=host:port"
		if strings.Contains(e.text, paramSeed) {
			remedy = "join seeds with &: seed[]=host:port&seed[]=host:port"
		}
		e.fail("the port of the seed is no number from 0 to 65535", remedy)
		return false
	case port == 0:
		port = DefaultPort
		e.warn("the port is empty or 0 and read as 6379")
	}
	e.node.Index, e.node.Offset = e.index, e.offset
	e.node.Network, e.node.TLS = "tcp", isTLSScheme(scheme) || hasStream && !hasScheme
	canonical, note, problem := canonicalHost(host)
	if problem != "" {
		e.fail(problem, "write seed[]=host:port&seed[]=host:port")
		return false
	}
	if note != "" {
		e.warn(note)
	}
	if isRedisURL(scheme) {
		e.warn(scheme + ":// is read by sessionring and cannot be connected to by phpredis; write tcp:// or tls://")
	}
	e.node.Address = joinHostPort(canonical, port)
	return true
}

// DefaultSentinelPort is the port of a Sentinel that names none.
const DefaultSentinelPort = 26379

const (
	sentinelScheme    = "sentinel://"
	sentinelTLSScheme = "sentinel+tls://"
)

// isSentinel reports whether s is the sentinel form.
func isSentinel(s string) bool {
	return strings.HasPrefix(s, sentinelScheme) || strings.HasPrefix(s, sentinelTLSScheme)
}

// parseSentinel reads sentinel://host:port,host:port/name?query, which phpredis does not know. With sentinel+tls
// TLS is used to the Sentinels and to the Redis servers they name.
func (p *parser) parseSentinel(s string, start int) {
	p.sp.Kind = KindSentinel
	text := strings.TrimRight(s[start:], " \t\n\v\f\r")
	scheme, rest, _ := strings.Cut(text, "://")
	front, rawQuery, _ := strings.Cut(rest, "?")
	hosts, name, hasName := strings.Cut(front, "/")
	e := &entry{p: p, kind: KindSentinel, index: -1, offset: start, text: text}
	e.shown = maskSentinel(scheme, hosts, name, rawQuery, hasName, strayAt(rawQuery, true))
	e.node = Node{
		Network: "tcp", TLS: scheme != "sentinel",
		Weight: 1, Timeout: DefaultTimeout, ReadTimeout: DefaultReadTimeout, Database: -1, Prefix: DefaultPrefix,
	}
	p.sp.MasterName = p.masterName(e, name)
	if i := strings.IndexFunc(rawQuery, func(r rune) bool { return r < 0x80 && isSeparator(byte(r)) }); i >= 0 {
		e.fail("a comma or blank stands in the query", "write %2C for a comma and %20 for a blank; the Sentinels stand before the name, parted by commas")
		return
	}
	e.query = parsePHPQuery(rawQuery)
	e.readParams()
	if !e.node.TLS && e.node.Stream != (StreamOptions{}) {
		e.warn("stream[…] is not used without sentinel+tls://")
	}
	p.readSentinels(e, hosts, start+len(scheme)+3)
}

// masterName decodes the name of the monitored primary.
func (p *parser) masterName(e *entry, raw string) string {
	name, ok := unescapeURL(raw)
	switch {
	case raw == "":
		e.fail("the name of the monitored primary is missing", "write it behind the hosts: "+sentinelScheme+"s1:26379,s2:26379/mymaster")
	case strings.ContainsAny(raw, "/#@, \t\n\v\f\r"):
		e.fail("the name of the monitored primary holds a / # @, a comma or a blank",
			"write them as %2F %23 %40 %2C %20; a database goes into database=, a password into auth= or sentinel_auth=")
	case !ok:
		e.fail("a % in the name is not followed by two hexadecimal digits", "write %25 for a %")
	case strings.IndexFunc(name, isControl) >= 0:
		e.fail("the name of the monitored primary holds a control byte", "remove it")
	}
	return name
}

// readSentinels makes a node of each Sentinel.
func (p *parser) readSentinels(e *entry, hosts string, offset int) {
	if strings.Contains(hosts, "@") {
		e.fail("user and password do not stand in front of the Sentinels",
			"write auth= for the Redis servers, sentinel_auth= for the Sentinels")
		return
	}
	seen := map[string]bool{}
	for part := range strings.SplitSeq(hosts, ",") {
		host := strings.TrimLeft(part, " \t\n\v\f\r")
		at := offset + len(part) - len(host)
		offset += len(part) + 1
		host = strings.TrimRight(host, " \t\n\v\f\r")
		if host == "" {
			continue
		}
		if len(p.sp.Nodes) == MaxSavePathEntries {
			e.fail(fmt.Sprintf("there are more than %d Sentinels", MaxSavePathEntries), "a handful is enough")
			return
		}
		node, ok := p.readSentinel(e, host, at)
		if ok && !seen[node.Address] {
			seen[node.Address] = true
			p.sp.Nodes = append(p.sp.Nodes, node)
		}
	}
	if len(p.sp.Nodes) == 0 && !e.failed && len(p.errs) == 0 {
		e.fail("no Sentinel is named", "write "+sentinelScheme+"s1:26379,s2:26379/mymaster")
	}
}

// readSentinel reads one host:port.
func (p *parser) readSentinel(e *entry, text string, offset int) (Node, bool) {
	s := &entry{
		p: p, kind: KindSentinel, index: len(p.sp.Nodes), offset: offset, text: text, node: e.node,
		shown: printable(maskAuthority(text), maxShown),
	}
	host, port := text, DefaultSentinelPort
	if i := strings.LastIndexByte(text, ':'); i >= 0 && !strings.HasSuffix(text, "]") && !isIPv6(text) {
		digits := text[i+1:]
		host, port = text[:i], 0
		if leadingDigits(digits, len(digits)) == len(digits) && len(digits) <= 5 {
			for j := range len(digits) {
				port = port*10 + int(digits[j]-'0')
			}
		}
		if port < 1 || port > 65535 {
			s.fail("the port of the Sentinel is no number from 1 to 65535", "write host:26379")
			return Node{}, false
		}
	}
	canonical, note, problem := canonicalHost(host)
	if problem != "" {
		s.fail(problem, "write host:26379, an IPv6 address in brackets")
		return Node{}, false
	}
	if strings.Contains(host, ":") && !strings.HasPrefix(host, "[") && host != text {
		s.fail("an IPv6 address with a port needs brackets", "write ["+canonical+"]:"+text[len(host)+1:])
		return Node{}, false
	}
	if note != "" {
		s.warn(note)
	}
	s.node.Index, s.node.Offset, s.node.Address = s.index, offset, joinHostPort(canonical, port)
	return s.node, true
}

// maskSentinel returns what may be shown of a sentinel string.
func maskSentinel(scheme, hosts, name, query string, hasName, hideHosts bool) string {
	shown := scheme + "://"
	switch {
	case hideHosts:
		shown += masked
	case strings.Contains(hosts, "@"):
		shown += masked + "@" + maskHosts(hosts[strings.LastIndexByte(hosts, '@')+1:])
	default:
		shown += maskHosts(hosts)
	}
	if hasName {
		if strings.ContainsAny(name, "@#") || looksSecret(name) {
			name = masked
		}
		shown += "/" + name
	}
	if query != "" {
		shown += "?" + maskQuery(query)
	}
	return printable(shown, maxShown)
}

func maskHosts(hosts string) string {
	parts := strings.SplitN(hosts, ",", 20)
	for i, part := range parts {
		parts[i] = maskAuthority(part)
	}
	return strings.Join(parts, ",")
}
