package redistest

import (
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	defaultStartTimeout = 20 * time.Second
	defaultTimeout      = 5 * time.Second // of one administrative command
)

// Options describe a server. The zero value is a plain node on 127.0.0.1 that
// keeps nothing on disk unless it is told to save.
type Options struct {
	// Binary is the server program; $REDIS_SERVER, then redis-server and
	// valkey-server on the PATH when empty.
	Binary string
	// Host is the loopback address to bind, 127.0.0.1 when empty; 127.0.0.2
	// (on Linux) and ::1 make a second host on one machine.
	Host string
	// Password is requirepass.
	Password string
	// Users are ACL users. With any of them the server also has a user for
	// the package's own commands.
	Users []User
	// TLS opens a second port for TLS with certificates made for it.
	TLS bool
	// TLSClientCert makes the TLS port ask clients for a certificate.
	TLSClientCert bool
	// Databases is the number of databases, 16 when 0.
	Databases int
	// MaxMemory in bytes, unlimited when 0, and its eviction policy,
	// noeviction when empty.
	MaxMemory       int64
	MaxMemoryPolicy string
	// AppendOnly keeps every write on disk, so that a killed server comes back
	// with all that it acknowledged. Without it a killed server comes back
	// with what was last saved.
	AppendOnly bool
	// IdleTimeout closes connections idle for so long, in whole seconds; 0
	// never does.
	IdleTimeout time.Duration
	// ReplicaOf makes the server a replica. For a failover both need the same
	// Password and Users.
	ReplicaOf *Server
	// Config are further lines of the configuration file, which win.
	Config []string
	// StartTimeout bounds every start until the server answers PING, 20 s when
	// 0.
	StartTimeout time.Duration
	// Log receives what the server logs, besides its own log file. Writes
	// happen when the server is stopped.
	Log io.Writer

	cluster  bool
	sentinel bool
}

// User is an ACL user, for example {"app", "secret", "~* &* +@all"}. An empty
// Password means nopass. {"default", "", "off"} switches the unnamed user off.
type User struct {
	Name, Password, Rules string
}

// adminName is the ACL user that the package itself logs in as.
const adminName = "redistest"

func (s *Server) writeConfig() error {
	o := s.opts
	var b strings.Builder
	line := func(words ...any) { fmt.Fprintln(&b, words...) }
	line("bind", o.host())
	line("port", s.port.port)
	line("dir", quote(s.dataDir()))
	line("unixsocket", quote(s.UnixSocket()))
	line("unixsocketperm 700")
	line("protected-mode no")
	line("daemonize no")
	if o.Password != "" {
		line("requirepass", quote(o.Password))
	}
	if o.TLS {
		line("tls-port", s.tlsPort.port)
		line("tls-cert-file", quote(s.certs.CertFile))
		line("tls-key-file", quote(s.certs.KeyFile))
		line("tls-ca-cert-file", quote(s.certs.CAFile))
		line("tls-auth-clients", yesNo(o.TLSClientCert))
	}
	if !o.sentinel {
		s.writeDataConfig(line)
	}
	for _, l := range o.Config {
		line(l)
	}
	return os.WriteFile(s.configFile(), []byte(b.String()), 0o600)
}

func (s *Server) writeDataConfig(line func(...any)) {
	o := s.opts
	line(`save ""`)
	line("appendonly", yesNo(o.AppendOnly))
	// Killing a process loses nothing that it handed to the kernel before it
	// replied, so waiting for the disk would only slow tests down. A rewrite
	// in the background would make a copy of the files inconsistent.
	line("appendfsync no")
	line("auto-aof-rewrite-percentage 0")
	line("repl-diskless-sync-delay 0") // 5 s by default
	if o.Databases > 0 {
		line("databases", o.Databases)
	}
	if o.MaxMemory > 0 {
		line("maxmemory", o.MaxMemory)
	}
	if o.MaxMemoryPolicy != "" {
		line("maxmemory-policy", o.MaxMemoryPolicy)
	}
	if o.IdleTimeout > 0 {
		line("timeout", max(1, int(o.IdleTimeout.Seconds())))
	}
	for _, u := range o.Users {
		pass := "nopass"
		if u.Password != "" {
			pass = quote(">" + u.Password)
		}
		if u.Password == "" && u.Rules == "off" {
			line("user", u.Name, u.Rules)
			continue
		}
		line("user", u.Name, "on", pass, u.Rules)
	}
	if len(o.Users) > 0 {
		line("user", adminName, "on", ">"+s.adminPassword, "~* &* +@all")
	}
	s.writeReplicaConfig(line)
	if o.cluster {
		line("cluster-enabled yes")
		// Outside the data directory, so that a node that loses its data
		// keeps its place in the cluster.
		line("cluster-config-file", quote(filepath.Join(s.dir, "nodes.conf")))
		line("cluster-announce-ip", s.Host())
		line("cluster-node-timeout 2000")
	}
}

// writeReplicaConfig gives primaries too what they need once a failover has
// made them replicas.
func (s *Server) writeReplicaConfig(line func(...any)) {
	line("replica-announce-ip", s.Host()) // not the source of its connections
	primary := s
	if m := s.opts.ReplicaOf; m != nil {
		primary = m
		line("replicaof", m.Host(), m.Port())
	}
	if user, pass := primary.login(); pass != "" {
		line("masterauth", quote(pass))
		if user != "" {
			line("masteruser", user)
		}
	}
}

func (o Options) host() string {
	if o.Host == "" {
		return "127.0.0.1"
	}
	return o.Host
}

// login returns the name and password for the package's own connections.
func (s *Server) login() (user, password string) {
	if len(s.opts.Users) > 0 {
		return adminName, s.adminPassword
	}
	return "", s.opts.Password
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// quote writes a value so that the server's configuration parser reads it back
// unchanged.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c > '~':
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// SavePath returns the server's entry in a session.save_path, with its
// password and with further parameters such as "weight=2", which must already
// be encoded as in a URL's query.
func (s *Server) SavePath(params ...string) string {
	return s.SavePathAt(s.Addr(), params...)
}

// SavePathAt is SavePath by way of another address, a Proxy's for example.
func (s *Server) SavePathAt(addr string, params ...string) string {
	return s.entry("tcp://"+addr, params)
}

// UnixSavePath is SavePath by way of the server's unix socket.
func (s *Server) UnixSavePath(params ...string) string {
	return s.entry("unix://"+s.UnixSocket(), params)
}

// TLSSavePath is SavePath by way of the TLS port, with the stream options that
// make PHP check the certificate. The server needs Options.TLS.
func (s *Server) TLSSavePath(params ...string) string {
	c := s.Certificates()
	stream := []string{"stream[cafile]=" + url.QueryEscape(c.CAFile)}
	if s.opts.TLSClientCert {
		stream = append(stream,
			"stream[local_cert]="+url.QueryEscape(c.ClientCertFile),
			"stream[local_pk]="+url.QueryEscape(c.ClientKeyFile))
	}
	return s.entry("tls://"+s.TLSAddr(), append(stream, params...))
}

func (s *Server) entry(base string, params []string) string {
	var all []string
	if s.opts.Password != "" {
		all = append(all, "auth="+url.QueryEscape(s.opts.Password))
	}
	all = append(all, params...)
	if len(all) == 0 {
		return base
	}
	return base + "?" + strings.Join(all, "&")
}

// SavePath joins the entries of several servers, as SavePath of each gives
// them.
func SavePath(servers []*Server, params ...string) string {
	entries := make([]string, len(servers))
	for i, s := range servers {
		entries[i] = s.SavePath(params...)
	}
	return strings.Join(entries, ",")
}
