package sessionring

import (
	"strconv"
	"strings"
)

// String returns the save_path in canonical form: defaults left out, values escaped, passwords as "***". It is
// safe to print. (A comma inside a password that is not written as %2C makes a host of the password's rest; that
// cannot be told from a host, and is shown. ParseSavePath warns of it.)
func (p *SavePath) String() string { return p.render(false) }

// Reveal returns the save_path in canonical form with its passwords. Parsed, it gives the same SavePath, but for
// offsets and warnings.
func (p *SavePath) Reveal() string { return p.render(true) }

// String returns the node as an entry of a save_path in canonical form, the password as "***".
func (n Node) String() string { return n.entry(false, nil) }

func (p *SavePath) render(reveal bool) string {
	if p == nil {
		return ""
	}
	var q queryWriter
	p.Settings.write(&q)
	switch p.Kind {
	case KindCluster:
		return p.renderCluster(reveal, q)
	case KindSentinel:
		return p.renderSentinel(reveal, q)
	}
	entries := make([]string, len(p.Nodes))
	for i, n := range p.Nodes {
		entries[i] = n.entry(reveal, q.pairs)
		q.pairs = nil // settings stand on the first entry
	}
	return strings.Join(entries, ", ")
}

func (p *SavePath) renderCluster(reveal bool, settings queryWriter) string {
	var q queryWriter
	for _, n := range p.Nodes {
		scheme := ""
		switch {
		case n.TLS:
			scheme = "tls://"
		case n.Stream != (StreamOptions{}):
			scheme = "tcp://" // without a scheme stream[…] means TLS
		}
		q.add("seed[]", scheme+n.Address)
	}
	if len(p.Nodes) > 0 {
		p.Nodes[0].writeOptions(&q, reveal, DefaultClusterPrefix)
	}
	q.pairs = append(q.pairs, settings.pairs...)
	return q.String()
}

func (p *SavePath) renderSentinel(reveal bool, settings queryWriter) string {
	scheme := sentinelScheme
	hosts := make([]string, len(p.Nodes))
	var q queryWriter
	for i, n := range p.Nodes {
		hosts[i] = n.Address
		if i > 0 {
			continue
		}
		if n.TLS {
			scheme = sentinelTLSScheme
		}
		n.writeOptions(&q, reveal, DefaultPrefix)
	}
	q.auth(paramSentinelAuth, p.SentinelAuth, reveal)
	q.pairs = append(q.pairs, settings.pairs...)
	return scheme + strings.Join(hosts, ",") + "/" + strings.ReplaceAll(escapeValue(p.MasterName), "/", "%2F") + q.behind("?")
}

// entry renders the node as an entry of a list of hosts, with further parameters behind its own.
func (n Node) entry(reveal bool, settings []string) string {
	front := "tcp://" + n.Address
	switch {
	case n.Network == "unix" && (len(n.Address) < 3 || n.Address[2] != ':'):
		front = "unix://" + n.Address
	case n.Network == "unix":
		front = "unix:" + n.Address // PHP drops the slash of unix:///c:/…
	case n.TLS:
		front = "tls://" + n.Address
	}
	var q queryWriter
	n.writeOptions(&q, reveal, DefaultPrefix)
	q.pairs = append(q.pairs, settings...)
	return front + q.behind("?")
}

// writeOptions writes what differs from the defaults.
func (n Node) writeOptions(q *queryWriter, reveal bool, defaultPrefix string) {
	if n.Weight != 1 {
		q.add(paramWeight, strconv.Itoa(n.Weight))
	}
	if n.Timeout != DefaultTimeout {
		q.add(paramTimeout, writeSeconds(n.Timeout))
	}
	if n.ReadTimeout != DefaultReadTimeout {
		q.add(paramReadTimeout, writeSeconds(n.ReadTimeout))
	}
	if n.RetryInterval != 0 {
		q.add(paramRetryInterval, strconv.Itoa(int(n.RetryInterval.Milliseconds())))
	}
	if n.Persistent {
		q.add(paramPersistent, "1")
	}
	if n.PersistentID != "" {
		q.public(paramPersistentID, n.PersistentID, reveal)
	}
	if n.Database >= 0 {
		q.add(paramDatabase, strconv.Itoa(n.Database))
	}
	if n.Prefix != defaultPrefix {
		q.public(paramPrefix, n.Prefix, reveal)
	}
	q.auth(paramAuth, n.Auth, reveal)
	n.Stream.write(q, reveal)
}

func (s StreamOptions) write(q *queryWriter, reveal bool) {
	text := func(option, value string) {
		if value != "" {
			q.public("stream["+option+"]", value, reveal)
		}
	}
	text("cafile", s.CAFile)
	text("capath", s.CAPath)
	text("local_cert", s.LocalCert)
	text("local_pk", s.LocalKey)
	if !s.Passphrase.IsZero() {
		q.secret("stream["+streamPassphrase+"]", s.Passphrase, reveal)
	}
	text("peer_name", s.PeerName)
	if s.SkipVerifyPeer {
		text("verify_peer", "0")
	}
	if s.SkipVerifyName {
		text("verify_peer_name", "0")
	}
	if s.AllowSelfSigned {
		text("allow_self_signed", "1")
	}
}

func (s Settings) write(q *queryWriter) {
	if s.Distribution != "" {
		q.add(paramDistribution, string(s.Distribution))
	}
	if s.Copies != 0 {
		q.add(paramCopies, strconv.Itoa(s.Copies))
	}
	if s.Lifetime != 0 {
		q.add(paramLifetime, writeSeconds(s.Lifetime))
	}
	if s.Deadline != 0 {
		q.add(paramDeadline, writeSeconds(s.Deadline))
	}
	if s.Locking != nil {
		q.add(paramLocking, strconv.FormatBool(*s.Locking))
	}
	if s.LockExpire != 0 {
		q.add(paramLockExpire, writeSeconds(s.LockExpire))
	}
	if s.LockWait != 0 {
		q.add(paramLockWait, writeSeconds(s.LockWait))
	}
	if s.LockRetries != nil {
		q.add(paramLockRetries, strconv.Itoa(*s.LockRetries))
	}
}

// queryWriter collects name=value pairs.
type queryWriter struct{ pairs []string }

// public writes what ought to be no secret, but is masked where a password seems to have got into it.
func (q *queryWriter) public(name, value string, reveal bool) {
	if !reveal && holdsSecret(value) {
		value = masked
	}
	q.add(name, value)
}

func (q *queryWriter) add(name, value string) { q.pairs = append(q.pairs, name+"="+escapeValue(value)) }

func (q *queryWriter) secret(name string, s Secret, reveal bool) {
	if reveal {
		q.add(name, s.Reveal())
		return
	}
	q.pairs = append(q.pairs, name+"="+s.String())
}

func (q *queryWriter) auth(name string, a Auth, reveal bool) {
	switch {
	case a.Password.IsZero():
	case a.HasUser:
		q.add(name+"[user]", a.Username)
		q.secret(name+"[pass]", a.Password, reveal)
	default:
		q.secret(name, a.Password, reveal)
	}
}

func (q queryWriter) String() string { return strings.Join(q.pairs, "&") }

// behind returns the query with mark in front, "" for an empty one.
func (q queryWriter) behind(mark string) string {
	if len(q.pairs) == 0 {
		return ""
	}
	return mark + q.String()
}

// escapeValue percent-encodes all but letters, digits and -._~:/ of a value.
func escapeValue(s string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; isAlnum(c) || strings.IndexByte("-._~:/", c) >= 0 {
			b.WriteByte(c)
		} else {
			b.WriteByte('%')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		}
	}
	return b.String()
}
