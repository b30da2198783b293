package sessionring

import (
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// Limits of a save_path. What is larger is refused, not cut.
const (
	MaxSavePathLength  = 1_000_000 // bytes
	MaxSavePathEntries = 4096      // hosts
)

// Kind says which engine a save_path names.
type Kind int

const (
	// KindNodes is the phpredis `redis` handler's list of hosts: the ring distributes.
	KindNodes Kind = iota
	// KindCluster is the `rediscluster` handler's form (seed[]=…): Redis Cluster distributes.
	KindCluster
	// KindSentinel is sentinel://s1:26379,s2:26379/mymaster: Sentinel names the one primary.
	KindSentinel
)

// String returns "nodes", "cluster" or "sentinel".
func (k Kind) String() string {
	switch k {
	case KindCluster:
		return "cluster"
	case KindSentinel:
		return "sentinel"
	default:
		return "nodes"
	}
}

// Distribution names how ids are placed on nodes. The placement behind a name never changes.
type Distribution string

const (
	// Consistent is the weighted hash ring: the default.
	Consistent Distribution = "consistent"
	// PHPRedis is the extension's own rule, bit for bit: the first four bytes of the id modulo the sum of weights.
	PHPRedis Distribution = "phpredis"
)

// Secret holds a password. It prints as "***" in every format verb and in JSON; only Reveal returns it.
type Secret struct{ value *string }

// NewSecret wraps s.
func NewSecret(s string) Secret { return Secret{&s} }

// Reveal returns the password itself, "" for the zero Secret.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// IsZero reports whether no password was given at all (an empty password was given).
func (s Secret) IsZero() bool { return s.value == nil }

// String returns "***", or "" when there is no password.
func (s Secret) String() string {
	if s.value == nil {
		return ""
	}
	return "***"
}

// Format masks the password for every verb and flag.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalText masks the password.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Auth is what an entry says of AUTH. The zero value sends none.
type Auth struct {
	HasUser  bool   // AUTH takes two arguments
	Username string // may be empty with HasUser: phpredis still sends it
	Password Secret // IsZero: no AUTH
}

// Node is one entry of a save_path, with defaults filled in.
type Node struct {
	Index   int    // position among the entries, from 0
	Offset  int    // byte offset of the entry in the string
	Network string // "tcp" or "unix"
	Address string // host:port (IPv6 in brackets, canonical) or the socket's path
	TLS     bool   // tls://, ssl:// or rediss://

	Weight        int           // share of the ids, 1 to 2^31-1; default 1
	Timeout       time.Duration // connecting; default DefaultTimeout
	ReadTimeout   time.Duration // waiting for one answer; default DefaultReadTimeout, negative: none but the operation's
	RetryInterval time.Duration // phpredis's wait between reconnects of a dropped connection; default 0
	Persistent    bool          // read as phpredis does; connections are always pooled here
	PersistentID  string        // "" when unnamed
	Database      int           // -1 when the entry names none (then 0 is used)
	Prefix        string        // before the id in the key; default DefaultPrefix, may be empty
	Auth          Auth
	Stream        StreamOptions // stream[…]: TLS
}

// StreamOptions are PHP's TLS stream context options of an entry (stream[…]=…), for tls:// and rediss://.
// The zero value verifies the server's certificate and name against the system's roots.
type StreamOptions struct {
	CAFile          string // cafile: PEM bundle; a file:// prefix is dropped
	CAPath          string // capath: directory of PEM files
	LocalCert       string // local_cert: client certificate, PEM
	LocalKey        string // local_pk: its key where not in local_cert
	Passphrase      Secret // passphrase of the key
	PeerName        string // peer_name: name to verify instead of the host
	SkipVerifyPeer  bool   // verify_peer=0: nothing is verified
	SkipVerifyName  bool   // verify_peer_name=0: chain verified, name not
	AllowSelfSigned bool   // allow_self_signed=1: a self-signed certificate is taken
}

// Settings are sessionring's own options that ride in a save_path. Zero fields were not given.
type Settings struct {
	Distribution Distribution  // distribution=consistent|phpredis
	Copies       int           // copies=N, 1 or more
	Lifetime     time.Duration // lifetime=seconds
	Locking      *bool         // locking=0|1
	LockExpire   time.Duration // lock_expire=seconds
	LockWait     time.Duration // lock_wait=seconds: how long Lock waits at most
	LockRetries  *int          // lock_retries=N: -1 for ever
	Deadline     time.Duration // deadline=seconds: one operation, all tries together
}

// SavePath is a parsed session.save_path.
type SavePath struct {
	Kind       Kind
	Nodes      []Node // entries; seeds of a cluster, sentinels of KindSentinel
	MasterName string // KindSentinel: name of the monitored primary
	// SentinelAuth is for the Sentinels themselves; each Node's Auth goes to the data nodes alone.
	SentinelAuth Auth
	Settings     Settings
	Warnings     []Warning
}

// Warning is a reading that may surprise, or with Lenient a parameter that nobody knows.
type Warning struct {
	Offset  int    // byte offset of the entry in the string
	Entry   string // the entry, passwords masked
	Message string // what is read how, and what to write instead
}

// ID names what the node serves: "tcp://host:6379" or "unix:///path", with "?database=N" for any but 0. The host
// is in lower case, an IPv6 address in its canonical form. Two entries of one ID reach the same keys; TLS, user,
// password, timeouts, weight and prefix are no part of it, so changing one of them moves nobody's session.
func (n Node) ID() string {
	address := n.Address
	if n.Network == "unix" {
		for strings.Contains(address, "//") { // the same file
			address = strings.ReplaceAll(address, "//", "/")
		}
	} else if host, zone, ok := strings.Cut(address, "%"); ok {
		address = strings.ToLower(host) + "%" + zone // of a zone, case counts
	} else {
		address = strings.ToLower(address)
	}
	id := n.Network + "://" + address
	if n.Database > 0 {
		id += "?database=" + strconv.Itoa(n.Database)
	}
	return id
}

// Host returns the part of the address that fails together: the host without its port, in lower case, or the
// path of the socket.
func (n Node) Host() string {
	if n.Network == "unix" {
		return n.Address
	}
	host, _, err := net.SplitHostPort(n.Address)
	if err != nil {
		host = n.Address
	}
	return strings.ToLower(host)
}
