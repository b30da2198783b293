package sessionring

import "strings"

// Names of parameters. Case counts, as in PHP.
const (
	paramWeight        = "weight"
	paramTimeout       = "timeout"
	paramReadTimeout   = "read_timeout"
	paramPersistent    = "persistent"
	paramPersistentID  = "persistent_id"
	paramRetryInterval = "retry_interval"
	paramDatabase      = "database"
	paramPrefix        = "prefix"
	paramAuth          = "auth"
	paramStream        = "stream"

	paramSeed     = "seed"     // of the cluster form
	paramFailover = "failover" // of the cluster form
	paramAlias    = "alias"    // a label that some people write; read by nobody

	paramSentinelAuth = "sentinel_auth" // of the sentinel form

	// sessionring's own; phpredis ignores them.
	paramDistribution = "distribution"
	paramCopies       = "copies"
	paramLifetime     = "lifetime"
	paramDeadline     = "deadline"
	paramLocking      = "locking"
	paramLockExpire   = "lock_expire"
	paramLockWait     = "lock_wait"
	paramLockRetries  = "lock_retries"
)

// isParam reports whether any form of save_path reads the parameter.
func isParam(name string) bool {
	switch name {
	case paramWeight, paramTimeout, paramReadTimeout, paramPersistent, paramPersistentID, paramRetryInterval,
		paramDatabase, paramPrefix, paramAuth, paramStream, paramSeed, paramSentinelAuth:
		return true
	}
	return isSetting(name)
}

// isSetting reports whether the parameter is sessionring's own.
func isSetting(name string) bool {
	switch name {
	case paramDistribution, paramCopies, paramLifetime, paramDeadline,
		paramLocking, paramLockExpire, paramLockWait, paramLockRetries:
		return true
	}
	return false
}

// misplaced says why a known parameter means nothing in this form of save_path, and what to do; "" where it does.
func misplaced(kind Kind, name string) (problem, remedy string) {
	switch kind {
	case KindNodes:
		switch name {
		case paramSeed:
			return "seed belongs to the Redis Cluster form, which is one query and no list of hosts",
				"write seed[]=host:port&seed[]=host:port&…, or leave it out"
		case paramFailover:
			return "failover belongs to the Redis Cluster form and gives a list of hosts no redundancy, in phpredis neither",
				"leave it out and write copies=2"
		case paramSentinelAuth:
			return "sentinel_auth belongs to the sentinel:// form", "leave it out"
		}
	case KindCluster:
		switch name {
		case paramWeight, paramDistribution, paramCopies:
			return name + " means nothing to Redis Cluster, which distributes and copies by itself", "leave it out"
		case paramDatabase:
			return "Redis Cluster has database 0 only", "leave database out; a prefix keeps applications apart"
		case paramPersistentID, paramRetryInterval, paramSentinelAuth:
			return name + " is not read in the Redis Cluster form, by phpredis neither", "leave it out"
		}
	case KindSentinel:
		switch name {
		case paramWeight, paramDistribution, paramCopies:
			return name + " means nothing with Sentinel: one primary holds all sessions", "leave it out"
		case paramSeed, paramFailover:
			return name + " belongs to the Redis Cluster form", "leave it out"
		}
	}
	return "", ""
}

// unknownRemedy says what to write instead of a parameter that nobody knows. It repeats nothing of the string
// but what resembles a known name.
func unknownRemedy(kind Kind, p phpParam) string {
	if rest, ok := strings.CutPrefix(p.name, "amp;"); ok && isParam(rest) {
		return "write & and not &amp; between parameters"
	}
	if rest, ok := strings.CutPrefix(p.name, "stream_"); ok {
		if option, _, _ := strings.Cut(rest, "="); p.broken || isStreamOption(option) {
			return "did you mean stream[" + nearest(option, streamOptions()) + "]? The closing bracket stands right behind the option's name"
		}
	}
	if isStreamOption(p.name) {
		return "did you mean stream[" + p.name + "]?"
	}
	if s := misnomer(p.name); s != "" {
		return "did you mean " + s + "?"
	}
	if s := nearest(p.name, paramNames(kind)); s != "" {
		return "did you mean " + s + "?"
	}
	return "leave it out, or parse leniently where the string is shared with PHP"
}

// misnomer returns what other software's or phpredis's own ini name for a setting is called here.
func misnomer(name string) string {
	switch strings.ToLower(name) {
	case "db", "dbindex", "db_index", "select", "redis_db":
		return paramDatabase
	case "password", "pass", "passwd", "pwd", "requirepass", "redis_auth", "credentials":
		return paramAuth
	case "user", "username", "auth_user":
		return "auth[user] and auth[pass]"
	case "connect_timeout", "connection_timeout", "connecttimeout", "dial_timeout", "timeout_ms":
		return paramTimeout
	case "readtimeout", "read_write_timeout", "socket_timeout":
		return paramReadTimeout
	case "key_prefix", "keyprefix", "namespace":
		return paramPrefix
	case "pconnect":
		return paramPersistent
	case "locking_enabled", "lock":
		return paramLocking
	case "lock_wait_time", "lock_timeout":
		return paramLockWait
	case "lock_ttl":
		return paramLockExpire
	case "ttl", "gc_maxlifetime", "maxlifetime", "expire":
		return paramLifetime
	case "replicas":
		return paramCopies
	case "tls", "ssl":
		return "tls:// in front of the host"
	}
	return ""
}

// paramNames lists what may be proposed in this form.
func paramNames(kind Kind) []string {
	names := []string{
		paramTimeout, paramReadTimeout, paramPersistent, paramPrefix, paramAuth,
		paramLifetime, paramDeadline, paramLocking, paramLockExpire, paramLockWait, paramLockRetries,
	}
	switch kind {
	case KindCluster:
		return append(names, paramSeed, paramFailover)
	case KindSentinel:
		return append(names, paramDatabase, paramPersistentID, paramRetryInterval, paramSentinelAuth)
	}
	return append(names, paramWeight, paramDatabase, paramPersistentID, paramRetryInterval,
		paramDistribution, paramCopies)
}

// nearest returns the name with the smallest edit distance to s, "" where none is near.
func nearest(s string, names []string) string {
	s = strings.ToLower(s)
	best, bestDistance := "", 0
	for _, name := range names {
		limit := max(1, len(name)/3)
		if len(s) > len(name)+limit || len(s)+limit < len(name) {
			continue
		}
		if d := editDistance(s, name); d <= limit && (best == "" || d < bestDistance) {
			best, bestDistance = name, d
		}
	}
	return best
}

// editDistance is Levenshtein's, by bytes, with an exchange of neighbours as one edit. Both strings are short.
func editDistance(a, b string) int {
	before := make([]int, len(b)+1)
	above := make([]int, len(b)+1)
	row := make([]int, len(b)+1)
	for j := range above {
		above[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(above[j]+1, row[j-1]+1, above[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, above, row = above, row, before
	}
	return above[len(b)]
}
