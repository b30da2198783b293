package sessionring

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// maxMessage bounds one message, in bytes: it may repeat a piece of the string.
const maxMessage = 400

// maxProblems bounds what is said of one entry: a megabyte of nonsense gives a readable error.
const maxProblems = 10

// entry is one entry being read.
type entry struct {
	p      *parser
	kind   Kind
	index  int
	offset int
	text   string // as it stands in the string
	shown  string // what may be shown of it
	tail   bool   // it may be the rest of a password that a comma or blank has torn
	torn   bool   // the next entry holds an '@' that may belong to this one's user and password
	comma  string // "timeout=0.25" where a decimal comma seems to have torn the entry off a number, else ""
	cut    string // the same for the entry that the number stands in

	query    phpQuery
	node     Node
	failed   bool
	problems int
	warnings int
}

// fail records what is wrong with the entry. Neither text may hold a password.
func (e *entry) fail(problem, remedy string) {
	e.failed = true
	e.problems++
	problem, remedy = printable(problem, maxMessage), printable(remedy, maxMessage)
	switch {
	case e.problems < maxProblems:
		e.p.errs = append(e.p.errs, EntryError{Offset: e.offset, Index: e.index, Entry: e.mask(), Problem: problem, Remedy: remedy})
	case e.problems == maxProblems:
		e.p.errs = append(e.p.errs, EntryError{Offset: e.offset, Index: e.index, Entry: e.mask(),
			Problem: "there is more wrong with it", Remedy: "mend what is named first"})
	}
}

// warn records a surprising reading. The text may not hold a password.
func (e *entry) warn(message string) {
	if e.warnings++; e.warnings <= 3*maxProblems {
		e.p.sp.Warnings = append(e.p.sp.Warnings, Warning{Offset: e.offset, Entry: e.mask(), Message: printable(message, maxMessage)})
	}
}

func (e *entry) mask() string {
	if e.shown == "" {
		e.shown = maskEntry(e.text, e.tail, e.torn)
	}
	return e.shown
}

// front returns the entry up to its query or fragment.
func (e *entry) front() string {
	if i := strings.IndexAny(e.text, "?#"); i >= 0 {
		return e.text[:i]
	}
	return e.text
}

// rawQuery returns what follows the first question mark.
func (e *entry) rawQuery() string {
	_, query, _ := strings.Cut(e.text, "?")
	return query
}

// show returns s, a piece of the front, where nothing of the front has to be masked.
func (e *entry) show(s string) string {
	if front := e.front(); e.tail || maskFront(front, false) != front || !strings.HasPrefix(e.mask(), printable(front, maxShown)) {
		return masked
	}
	return printable(s, maxShownPublic)
}

// parse reads an entry of the list form.
func (e *entry) parse() {
	e.node = Node{
		Index: e.index, Offset: e.offset,
		Weight: 1, Timeout: DefaultTimeout, ReadTimeout: DefaultReadTimeout, Database: -1, Prefix: DefaultPrefix,
	}
	text := e.text
	if rest, ok := strings.CutPrefix(text, "unix:"); ok {
		text = "file:" + rest // phpredis's own trick
	}
	u, ok := parsePHPURL(text)
	if !ok {
		e.failURL()
		return
	}
	query := u.query
	switch {
	case u.hasQuery && u.hasFragment:
		query += "#" + u.fragment // again as phpredis does
	case u.hasFragment:
		e.warn("what follows the # is dropped")
	}
	e.query = parsePHPQuery(query)
	stream := e.query.get(paramStream)
	e.resolveAddress(u, stream != nil && stream.isArray())
	e.readParams()
	if e.node.Network == "unix" && e.node.TLS {
		e.node.TLS = false
	}
	if !e.node.TLS && e.node.Stream != (StreamOptions{}) {
		e.warn("stream[…] is not used without tls:// or rediss://")
	}
	if isRedisURL(u.scheme) && u.hasHost {
		e.readRedisURL(u)
	} else {
		if u.hasUser {
			e.warn("user and password in front of the host are ignored, as in phpredis; write auth[user]= and auth[pass]=")
		}
		if u.hasHost && u.path != "" && u.path != "/" {
			e.warn("the path behind the host is ignored, as in phpredis; write database= for a database")
		}
	}
	if e.tail && !e.failed {
		e.warn("this follows an auth= and is read as a host of its own; if it is the rest of the password write %2C for a comma, " +
			"%20 for a blank; if it is a host write tcp:// in front")
	} else if e.comma != "" && !e.failed {
		e.warn("this is read as a host of its own; if " + e.comma + " is meant, write a dot: a comma ends an entry")
	}
}

// failURL says why PHP cannot read the entry as a URL.
func (e *entry) failURL() {
	front := e.front()
	lower := strings.ToLower(front)
	scheme, rest, hasScheme := strings.Cut(front, "://")
	path := strings.TrimLeft(rest, "/")
	socket := path
	if i := strings.LastIndexByte(path, ':'); i > 0 && leadingDigits(path[i+1:], len(path)) == len(path)-i-1 {
		socket = path[:i] // tcp:///run/redis.sock:6379
	}
	switch {
	case strings.HasPrefix(lower, "unix:") && !strings.HasPrefix(front, "unix:"):
		e.fail("unix: is lower case in phpredis", "write unix:///"+e.show(path))
	case hasScheme && strings.HasPrefix(rest, "/") && (strings.Contains(path, "/") || strings.HasSuffix(socket, ".sock")):
		e.fail("a socket's path does not go with "+e.show(scheme)+"://", "write unix:///"+e.show(socket))
	case hasScheme && path != "" && strings.HasPrefix(rest, "/"):
		e.fail("the host is missing between the slashes", "write "+e.show(scheme)+"://"+e.show(path)+" with two slashes")
	case !hasScheme && strings.HasPrefix(front, "/") && !strings.HasPrefix(front, "//"):
		e.fail("PHP takes what follows the colon in this path for a port", "write unix://"+e.show(front))
	case strings.Contains(front, ":") && front != ":" && !strings.HasSuffix(front, "/") && !strings.HasSuffix(front, ":"):
		host := rest
		if !hasScheme {
			host = front
		}
		if i := strings.LastIndexByte(host, '@'); i >= 0 {
			host = host[i+1:]
		}
		if strings.HasPrefix(host, ":") {
			e.fail("the host is missing", "write tcp://host:port")
			return
		}
		e.fail("the port is no number from 0 to 65535", "write tcp://host:port; write @ : / ? # in a password as %40 %3A %2F %3F %23, in auth=")
	default:
		e.fail("the host is missing", "write tcp://host:6379")
	}
}

// readParams reads the query into the node and the settings.
func (e *entry) readParams() {
	q := &e.query
	if q.cut {
		e.fail(fmt.Sprintf("it has more than %d parameters, and PHP reads no more", maxQueryParams), "leave some out")
	}
	done := map[string]bool{}
	unknown := 0
	behindSecret := false
	for _, p := range q.params {
		secret, public := isSecretParam(p), isPublicParam(p)
		afterSecret := behindSecret
		behindSecret = secret || behindSecret && !public
		value := q.get(p.name)
		if value == nil || done[p.name] && p.name != paramStream {
			if value == nil && !done[""] {
				done[""] = true
				e.reject("a parameter has no name, or too many brackets", "write name=value")
			}
			continue
		}
		if problem, remedy := misplaced(e.kind, p.name); problem != "" {
			done[p.name] = true
			e.reject(problem, remedy)
			continue
		}
		if !done[p.name] && value.repeated {
			e.warn(p.name + " is given more than once; the last one counts")
		}
		if e.kind == KindCluster && p.name == paramFailover {
			done[p.name] = true
			if s := value.castString(); strings.EqualFold(s, "error") || strings.EqualFold(s, "distribute") {
				e.warn("failover is not read: sessions are read from primaries alone, for a replica may lag behind")
			}
			continue
		}
		if !isParam(p.name) {
			done[p.name] = true
			if p.name == paramAlias {
				e.warn("alias is only a label and read by nobody; a replica does not belong into the list: it refuses writes")
				continue
			}
			if unknown++; unknown <= maxProblems {
				e.rejectUnknown(p, afterSecret)
			}
			continue
		}
		if p.name == paramStream {
			e.readStream(p, value, done)
			continue
		}
		done[p.name] = true
		if isSetting(p.name) {
			e.readSetting(p, value)
			continue
		}
		e.readParam(p, value)
	}
	if unknown > maxProblems {
		e.reject(fmt.Sprintf("%d more parameters are unknown", unknown-maxProblems), "leave them out")
	}
}

// reject is an error, with Lenient a warning.
func (e *entry) reject(problem, remedy string) {
	if e.p.lenient {
		e.warn(problem + "; " + remedy)
		return
	}
	e.fail(problem, remedy)
}

// rejectUnknown names an unknown parameter, unless it may be the rest of a password with an '&' in it.
func (e *entry) rejectUnknown(p phpParam, afterSecret bool) {
	remedy := unknownRemedy(e.kind, p)
	if strings.Contains(e.mask(), masked+"?") { // what stands in front may be a part of a password, and this the next
		e.reject("a parameter is unknown", "write %3F for a ? in a password, or leave the parameter out")
		return
	}
	if afterSecret && !strings.HasPrefix(remedy, "did you mean") {
		e.reject("the parameter behind the password is unknown", "write %26 for an & in a password, or leave the parameter out")
		return
	}
	name := masked
	if showsName(p) {
		name = p.name
	}
	e.reject("unknown parameter "+name, remedy)
}

// readParam reads one of phpredis's parameters.
func (e *entry) readParam(p phpParam, v *phpValue) {
	n := &e.node
	switch p.name {
	case paramWeight:
		weight := int32(v.castInt()) //nolint:gosec // cut to 32 bits as phpredis does
		if weight <= 0 {
			e.fail("weight is read as "+strconv.Itoa(int(weight))+" and must be from 1 to 2147483647", "write weight=1 or more")
			return
		}
		n.Weight = int(weight)
		e.warnNumber(p, v, strconv.Itoa(n.Weight))
	case paramTimeout:
		seconds := v.castFloat()
		if e.kind == KindCluster && seconds == 0 {
			e.warn("timeout 0 means the default, " + writeSeconds(DefaultTimeout) + " s")
			return
		}
		if seconds <= 0 {
			remedy := "write seconds, as in timeout=0.25"
			if strings.HasPrefix(e.cut, p.name+"=") {
				remedy = "write " + e.cut + ": a comma ends an entry"
			}
			e.fail("timeout is read as "+formatFloat(seconds)+" and must be above 0", remedy)
			return
		}
		n.Timeout = e.duration(p.name, seconds)
		e.warnNumber(p, v, writeSeconds(n.Timeout))
		if n.Timeout < time.Millisecond {
			e.warn("timeout is under a millisecond: no time to connect")
		}
	case paramReadTimeout:
		n.ReadTimeout = e.duration(p.name, v.castFloat())
		if e.kind == KindCluster && n.ReadTimeout < 0 {
			e.fail("phpredis refuses a negative read_timeout in the Redis Cluster form", "write seconds, as in read_timeout=0.25")
			return
		}
		if n.ReadTimeout == 0 {
			n.ReadTimeout = DefaultReadTimeout
			e.warn("read_timeout 0 means the default, " + writeSeconds(DefaultReadTimeout) + " s (in phpredis 60 s)")
			return
		}
		e.warnNumber(p, v, writeSeconds(n.ReadTimeout))
		if n.ReadTimeout > 0 && n.ReadTimeout < time.Millisecond {
			e.warn("read_timeout is under a millisecond: no time for an answer")
		}
	case paramPersistent:
		n.Persistent = v.castBool()
		if s := v.castString(); !n.Persistent && s != "0" && s != "" && !strings.EqualFold(s, "false") && !strings.EqualFold(s, "no") {
			e.warn("persistent is read as false: only 1, true and yes are true")
		}
	case paramPersistentID:
		n.PersistentID = e.readText(p, v)
	case paramRetryInterval:
		ms := v.castInt()
		n.RetryInterval = time.Duration(min(max(ms, 0), int64(MaxLifetime/time.Millisecond))) * time.Millisecond
		e.warnNumber(p, v, strconv.FormatInt(int64(n.RetryInterval/time.Millisecond), 10))
	case paramDatabase:
		n.Database = max(int(int32(v.castInt())), -1) //nolint:gosec // cut to 32 bits as phpredis does
		if n.Database < 0 {
			e.warn("a negative database is read as none: database 0")
			return
		}
		e.warnNumber(p, v, strconv.Itoa(n.Database))
	case paramPrefix:
		n.Prefix = e.readText(p, v)
	case paramAuth:
		n.Auth = e.readAuth(p.name, v)
	case paramSentinelAuth:
		e.p.sp.SentinelAuth = e.readAuth(p.name, v)
	}
}

// duration turns seconds into a duration, to the microsecond as phpredis does, MaxLifetime at most.
func (e *entry) duration(name string, seconds float64) time.Duration {
	if math.Abs(seconds) >= MaxLifetime.Seconds() {
		if seconds > 0 {
			e.warn(name + " is cut to " + writeSeconds(MaxLifetime) + " s")
		}
		seconds = math.Copysign(MaxLifetime.Seconds(), seconds)
	}
	d := time.Duration(math.Round(seconds*1e6)) * time.Microsecond
	if d == 0 && seconds > 0 && name == paramTimeout {
		d = time.Microsecond
	}
	return d
}

// warnNumber warns where a number is not read as it is written.
func (e *entry) warnNumber(p phpParam, v *phpValue, read string) {
	if v.isArray() {
		e.warn(p.name + "[…] is an array and read as " + read)
		return
	}
	if number, _ := numericPrefix(v.str); number == v.str && number != "" {
		written, err := strconv.ParseFloat(number, 64)
		now, _ := strconv.ParseFloat(read, 64)
		if err == nil && math.Abs(written-now) < 1e-6 {
			return
		}
	}
	message := p.name + "=" + showText(p.rawValue, v.str) + " is read as " + read
	if strings.ContainsAny(v.str, ";?") {
		message += "; only & parts parameters"
	}
	e.warn(message)
}

// readText reads a string.
func (e *entry) readText(p phpParam, v *phpValue) string {
	switch {
	case v.isArray():
		e.warn(p.name + "[…] is an array and read as the word Array")
	case strings.ContainsAny(v.str, "?") || looksSecret(v.str):
		e.warn("a further ? or what looks like another parameter is part of " + p.name + "; only & parts parameters")
	case strings.Contains(p.rawValue, "+"):
		e.warn("a + in " + p.name + " is read as a blank; write %2B for a plus")
	}
	return v.castString()
}

// formatFloat shows a float without an exponent where it is of ordinary size.
func formatFloat(f float64) string {
	if a := math.Abs(f); a != 0 && (a < 1e-9 || a > 1e15) {
		return strconv.FormatFloat(f, 'g', 6, 64)
	}
	return strconv.FormatFloat(f, 'f', -1, 64)
}

// writeSeconds writes a duration in seconds, exactly.
func writeSeconds(d time.Duration) string {
	sign := ""
	if d < 0 {
		sign, d = "-", -d
	}
	s := fmt.Sprintf("%s%d.%09d", sign, d/time.Second, d%time.Second)
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
}
