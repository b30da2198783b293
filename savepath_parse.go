package sessionring

import (
	"fmt"
	"strconv"
	"strings"
)

// ParseOption changes how strictly ParseSavePath reads.
type ParseOption func(*parser)

// Lenient turns parameters that nobody knows, or that mean nothing where they stand, from errors into warnings:
// for a string that is shared with PHP, where phpredis ignores them in silence.
func Lenient() ParseOption { return func(p *parser) { p.lenient = true } }

// parser holds what concerns the string as a whole.
type parser struct {
	lenient     bool
	sp          *SavePath
	errs        []EntryError
	given       map[string]given // settings by name
	saidOneCopy bool
}

// ParseSavePath reads a session.save_path as phpredis does (handlers redis and rediscluster, read from its
// source and checked against 5.3.7 and 6.1.0), and the forms redis://, rediss:// and sentinel://. What phpredis
// refuses, or can never connect with, is refused, all of it in one *SavePathError. What it reads in a
// surprising way is read the same way and told in Warnings. An unknown parameter is an error that names the
// nearest known one, or with Lenient a warning.
//
// Where the string names none, a node connects within DefaultTimeout and answers within DefaultReadTimeout:
// phpredis's 86,400 s and 60 s are nothing that a web request could wait for. docs/save-path.md has the rest.
func ParseSavePath(s string, opts ...ParseOption) (*SavePath, error) {
	p := &parser{sp: &SavePath{}, given: map[string]given{}}
	for _, opt := range opts {
		opt(p)
	}
	switch start := len(s) - len(strings.TrimLeft(s, " \t\n\v\f\r")); {
	case len(s) > MaxSavePathLength:
		p.refuse(MaxSavePathLength, fmt.Sprintf("the save_path has %d bytes, more than %d", len(s), MaxSavePathLength), "shorten it")
	case strings.Contains(s, "\x00"):
		p.refuse(strings.IndexByte(s, 0), "the save_path holds a NUL byte, which PHP refuses in its settings", "remove it")
	case isSentinel(s[start:]):
		p.parseSentinel(s, start)
	case isCluster(s[start:]):
		p.parseCluster(s, start)
	default:
		p.parseNodes(s)
	}
	if len(p.errs) > 0 {
		return nil, &SavePathError{Entries: p.errs}
	}
	return p.sp, nil
}

// refuse records an error that concerns the string as a whole.
func (p *parser) refuse(offset int, problem, remedy string) {
	p.errs = append(p.errs, EntryError{Offset: offset, Index: -1, Problem: problem, Remedy: remedy})
}

// parseNodes reads a list of hosts.
func (p *parser) parseNodes(s string) {
	entries := p.split(s)
	switch {
	case len(entries) == 0:
		p.refuse(0, "the save_path names no host", "write tcp://127.0.0.1:6379")
		return
	case len(entries) > MaxSavePathEntries:
		p.refuse(entries[MaxSavePathEntries].offset,
			fmt.Sprintf("the save_path has %d entries, more than %d", len(entries), MaxSavePathEntries), "use Redis Cluster for that many hosts")
		return
	}
	seen := map[string]int{}
	p.sp.Nodes = make([]Node, 0, len(entries))
	for i := range entries {
		e := &entries[i]
		e.parse()
		if e.failed {
			continue
		}
		if first, again := seen[e.node.ID()]; again {
			e.warn("this is the same database of the same server as the entry at offset " + strconv.Itoa(entries[first].offset) +
				": it is one node, and never a second copy")
		} else {
			seen[e.node.ID()] = i
		}
		p.sp.Nodes = append(p.sp.Nodes, e.node)
	}
}

// split parts the entries, as phpredis does: any run of commas and of C's white space parts, whatever stands
// around it.
func (p *parser) split(s string) []entry {
	var entries []entry
	end := 0
	for i := 0; i < len(s); {
		if isSeparator(s[i]) {
			i++
			continue
		}
		start := i
		for i < len(s) && !isSeparator(s[i]) {
			i++
		}
		e := entry{p: p, kind: KindNodes, index: len(entries), offset: start, text: s[start:i]}
		if len(entries) > 0 {
			e.suspect(&entries[len(entries)-1], s[end:start])
		}
		end = i
		entries = append(entries, e)
	}
	return entries
}

func isSeparator(c byte) bool { return c == ',' || isSpace(c) }

// suspect finds out whether a comma or blank has torn the entry off the one before it.
func (e *entry) suspect(before *entry, separator string) {
	if scheme, _, ok := strings.Cut(e.text, "://"); ok && isKnownScheme(strings.ToLower(scheme)) ||
		strings.HasPrefix(e.text, "unix:") || strings.HasPrefix(e.text, "file:/") {
		return
	}
	before.torn = strings.Contains(e.text, "@")
	last, inQuery := before.text, before.tail
	if !inQuery {
		_, last, inQuery = strings.Cut(before.text, "?")
	}
	if !inQuery {
		// redis://user:se,cret@host: what stands in place of the port is none.
		front := before.text[strings.LastIndexByte(before.text, '@')+1:]
		e.tail = maskFront(front, false) != front
		return
	}
	i := strings.LastIndexByte(last, '&')
	if i < 0 && before.tail { // still the same password
		e.tail = true
		return
	}
	q := parsePHPQuery(last[i+1:])
	if len(q.params) == 0 {
		return
	}
	param := q.params[0]
	if isSecretParam(param) {
		e.tail = true
		return
	}
	digits := leadingDigits(e.text, len(e.text))
	if separator == "," && digits > 0 && (digits == len(e.text) || e.text[digits] == '&') && isSeconds(param.name) &&
		param.value != "" && leadingDigits(param.value, len(param.value)) == len(param.value) {
		e.comma = param.name + "=" + printable(param.value+"."+e.text[:digits], maxShownPublic)
		before.cut = e.comma
	}
}

// isSeconds reports whether the parameter takes seconds, of which people write fractions.
func isSeconds(name string) bool {
	switch name {
	case paramTimeout, paramReadTimeout, paramDeadline, paramLockExpire, paramLockWait:
		return true
	}
	return false
}
