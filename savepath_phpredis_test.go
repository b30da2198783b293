package sessionring

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/sessionring/sessionring/internal/phptest"
)

// served is what a recorder saw of one session.
type served struct {
	place    string // port, or path of the socket
	auth     []string
	database int
	prefix   string
}

// recorder is a set of servers that take any AUTH, hold no keys and note who asked for which session.
type recorder struct {
	mu       sync.Mutex
	sessions map[string]served // by id
	wg       sync.WaitGroup
}

func startRecorder(t *testing.T, places []net.Listener) *recorder {
	t.Helper()
	rec := &recorder{sessions: map[string]served{}}
	for _, l := range places {
		place := l.Addr().String()
		if a, ok := l.Addr().(*net.TCPAddr); ok {
			place = strconv.Itoa(a.Port)
		}
		rec.wg.Go(func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				rec.wg.Go(func() { rec.serve(conn, place) })
			}
		})
	}
	t.Cleanup(func() {
		for _, l := range places {
			_ = l.Close()
		}
		rec.wg.Wait()
	})
	return rec
}

func (rec *recorder) serve(conn net.Conn, place string) {
	defer conn.Close()
	state := served{place: place}
	in := bufio.NewReader(conn)
	for {
		args, err := readCommand(in)
		if err != nil {
			return
		}
		reply := "+OK\r\n"
		switch strings.ToUpper(args[0]) {
		case "AUTH":
			state.auth = args[1:]
		case "SELECT":
			state.database, _ = strconv.Atoi(args[1])
		case "GET":
			key := args[1]
			if i := strings.LastIndex(key, "id--"); i >= 4 { // ids are four letters, then id--, then a number
				s := state
				s.prefix = key[:i-4]
				rec.mu.Lock()
				rec.sessions[key[i-4:]] = s
				rec.mu.Unlock()
			}
			reply = "$-1\r\n"
		}
		if _, err := io.WriteString(conn, reply); err != nil {
			return
		}
	}
}

// readCommand reads one array of bulk strings.
func readCommand(in *bufio.Reader) ([]string, error) {
	count := func(mark byte) (int, error) {
		first, err := in.ReadByte()
		if err != nil {
			return 0, err
		}
		if first != mark { // a TLS handshake
			return 0, fmt.Errorf("%q where %q is due", first, mark)
		}
		line, err := in.ReadString('\n')
		if err != nil {
			return 0, err
		}
		return strconv.Atoi(strings.TrimSpace(line))
	}
	n, err := count('*')
	if err != nil || n < 1 || n > 100 {
		return nil, fmt.Errorf("%d arguments: %w", n, err)
	}
	args := make([]string, n)
	for i := range args {
		size, err := count('$')
		if err != nil || size < 0 || size > 1<<20 {
			return nil, fmt.Errorf("%d bytes: %w", size, err)
		}
		b := make([]byte, size+2)
		if _, err := io.ReadFull(in, b); err != nil {
			return nil, err
		}
		args[i] = string(b[:size])
	}
	return args, nil
}

// listenTwice listens on one port of both loopback addresses, where there are both.
func listenTwice(t *testing.T) []net.Listener {
	t.Helper()
	for range 20 {
		four, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := four.Addr().(*net.TCPAddr).Port
		six, err := net.Listen("tcp6", fmt.Sprintf("[::1]:%d", port))
		if err == nil {
			return []net.Listener{four, six}
		}
		if _, err := net.Listen("tcp6", "[::1]:0"); err != nil {
			return []net.Listener{four} // no IPv6 here
		}
		_ = four.Close()
	}
	t.Fatal("no port is free on both loopback addresses")
	return nil
}

// staysHome reports whether phpredis, asked to read s, connects nowhere but to this machine.
func staysHome(s string) bool {
	p := &parser{sp: &SavePath{}}
	for _, e := range p.split(s) {
		text := e.text
		if rest, ok := strings.CutPrefix(text, "unix:"); ok {
			text = "file:" + rest
		}
		u, ok := parsePHPURL(text)
		host := u.host
		if !u.hasHost {
			host = u.path
		}
		if i := strings.Index(host, "://"); i >= 0 { // phpredis looks for a scheme in a path too
			return false
		}
		if !ok || strings.HasPrefix(host, "/") || host == "" {
			continue
		}
		host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
		if a, ok := parseIPv4(host); ok {
			host = a
		}
		if a, err := netip.ParseAddr(host); err == nil {
			host = a.String()
		}
		if !slices.Contains([]string{"localhost", "127.0.0.1", "0.0.0.0", "::1"}, host) {
			return false
		}
	}
	return true
}

// refusedForAnother reports whether the entries named in err are others than the one that leads to place: one that
// can never be connected to is refused with the whole string, where the extension serves the ids of the rest.
func refusedForAnother(err error, savePath, place string) bool {
	p := &parser{sp: &SavePath{}}
	entries := p.split(savePath)
	if len(entries) < 2 {
		return false
	}
	var bad *SavePathError
	if !errors.As(err, &bad) {
		return false
	}
	leads := 0
	for _, e := range entries {
		if strings.Contains(e.text, place) {
			leads++
		}
	}
	for _, b := range bad.Entries {
		if leads == 1 && strings.Contains(entries[b.Index].text, place) {
			return false
		}
	}
	return true
}

// TestSavePathAgainstPHPRedis lets the installed extension open random save_paths, and compares which server it
// asked for a session, with which AUTH, database and prefix.
func TestSavePathAgainstPHPRedis(t *testing.T) {
	phptest.Require(t)
	var places []net.Listener
	var ports []string
	for range 3 {
		l := listenTwice(t)
		places = append(places, l...)
		ports = append(ports, strconv.Itoa(l[0].Addr().(*net.TCPAddr).Port))
	}
	dir, err := os.MkdirTemp("", "sp") // t.TempDir() may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "a.sock")
	unixListener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	rec := startRecorder(t, append(places, unixListener))

	r := rand.New(rand.NewPCG(7, 8))
	pick := func(choices ...string) string { return choices[r.IntN(len(choices))] }
	random := func() string {
		var b strings.Builder
		for range max(1, r.IntN(5)-1) {
			if r.IntN(6) == 0 {
				b.WriteString(pick("unix://", "unix:", "file://", "file:", "", "tcp:", "UNIX:", "x:", "tcp://") + socket)
			} else {
				b.WriteString(pick("tcp://", "tcp://", "tcp://", "tcp://", "", "//", "tcp:", "TCP://", "tls://", "x:", "tcp:/", "redis://"))
				if r.IntN(8) == 0 {
					b.WriteString(pick("u:p@", ":p@", "p@", "u:p/q@"))
				}
				b.WriteString(pick("127.0.0.1", "127.0.0.1", "127.0.0.1", "localhost", "127.1", "::1", "[::1]", "0", "2130706433", "0x7f.1", "[127.0.0.1]"))
				if r.IntN(8) > 0 {
					b.WriteString(":" + pick(ports...))
				} else {
					b.WriteString(pick(":", ":0", ":99999", ":"+ports[0]+"x", ":0"+ports[1], ":"+ports[2]+":1"))
				}
				b.WriteString(pick("", "", "", "/", "/3"))
			}
			if r.IntN(3) > 0 {
				b.WriteString("?")
				for range 1 + r.IntN(4) {
					b.WriteString(pick("weight", "weight", "timeout", "database", "database", "prefix", "auth", "auth[]", "auth[user]", "auth[pass]", "auth[0]", "auth[1]", "read_timeout", "persistent_id", "retry_interval", "Weight", "a.b", "+weight", "weight%00", "weight[", "%77eight", "database[]"))
					b.WriteString(pick("=", "=", "=", "=", ""))
					b.WriteString(pick("1", "2", "3", "7", "0", "-1", "2.9", "1e1", "abc", "", " 3", "3abc", "4294967297", "3000000000", "%20"+"2", "x#y", "a?b", "p%40s%2Bs", "%zz", "5;weight=9", "a=b", "0x10", "1%001"))
					b.WriteString(pick("&", "&", "&", "&&", "&amp;"))
				}
			}
			b.WriteString(pick("", "", "", "#frag"))
			b.WriteString(pick(", ", ",", " ", "\t", ",,"))
		}
		s := []byte(b.String())
		for range r.IntN(3) {
			i := r.IntN(len(s))
			switch c := pick(":", "/", "?", "#", "@", "[", "]", "&", "=", "%", "+", ",", " ", "\x01")[0]; r.IntN(3) {
			case 0:
				s[i] = c
			case 1:
				s = slices.Delete(s, i, i+1)
				s = append(s, c)
			default:
				s = slices.Insert(s, i, c)
			}
		}
		return string(s)
	}

	type trial struct{ savePath, id string }
	var trials []trial
	var inputs []string
	for len(trials) < 3000 {
		s := random()
		if !staysHome(s) || isCluster(strings.TrimSpace(s)) || isSentinel(strings.TrimSpace(s)) {
			continue
		}
		id := fmt.Sprintf("%c%c%c%cid--%d", 'a'+r.IntN(26), 'a'+r.IntN(26), 'a'+r.IntN(26), 'a'+r.IntN(26), len(trials))
		trials = append(trials, trial{s, id})
		inputs = append(inputs, id+" "+s)
	}
	type answer struct {
		Started bool
		Errors  string
	}
	answers := askPHP[answer](t, `
		set_error_handler(function ($n, $m) { global $errors; $errors .= "$m\n"; return true; });
		ob_start(); // headers are sent with the first output, and a session wants to be first
		$answers = [];
		while (($line = fgets(STDIN)) !== false) {
			[$id, $path] = explode(' ', base64_decode(trim($line)), 2);
			$errors = ''; $started = false;
			ini_set('session.save_path', $path);
			session_id($id);
			try { $started = session_start(); if ($started) session_abort(); } catch (Throwable $e) { $errors .= get_class($e); }
			$answers[] = json_encode(['Started' => $started, 'Errors' => $errors], JSON_INVALID_UTF8_SUBSTITUTE);
		}
		ob_end_clean();
		echo implode("\n", $answers), "\n";
		`, map[string]string{
		"session.save_handler": "redis", "session.use_cookies": "0", "session.use_only_cookies": "0", "session.use_strict_mode": "0",
		"session.cache_limiter": "", "session.gc_probability": "0", "default_socket_timeout": "5",
	}, inputs)

	rec.mu.Lock()
	defer rec.mu.Unlock()
	refused, reached := 0, 0
	for i, c := range trials {
		sp, parseErr := ParseSavePath(c.savePath, Lenient())
		got, wasServed := rec.sessions[c.id]
		if strings.Contains(answers[i].Errors, "Failed to initialize storage module") {
			refused++
			if parseErr == nil {
				t.Errorf("%q: the extension refuses it (%s), we read %v", c.savePath, answers[i].Errors, sp)
			}
			continue
		}
		if wasServed && parseErr != nil {
			if refusedForAnother(parseErr, c.savePath, got.place) {
				continue
			}
			t.Errorf("%q: the extension reached %s, we refuse: %v", c.savePath, got.place, parseErr)
			continue
		}
		if parseErr != nil {
			continue // no server was reached: refused for that
		}
		owner := phpredisOwner(sp.Nodes, c.id)
		place := owner.Address
		if owner.Network == "unix" {
			place = filepath.Clean(place)
		} else {
			_, place, _ = strings.Cut(owner.Address[strings.LastIndexByte(owner.Address, ':'):], ":")
		}
		if !wasServed {
			entry := c.savePath[owner.Offset:]
			// 5.3.7 doubles the brackets of IPv6, knows no redis://, and PHP has no TLS for us here.
			excused := owner.TLS || strings.HasPrefix(entry, "redis") || strings.Contains(entry, "[") || strings.Contains(c.savePath, "timeout") ||
				owner.Network == "unix" && place != socket || owner.Network == "tcp" && !slices.Contains(ports, place)
			if !excused {
				t.Errorf("%q: we say %s for %s, the extension reached no server: %s", c.savePath, owner.Address, c.id, answers[i].Errors)
			}
			continue
		}
		reached++
		want := served{place: place, auth: authArgs(owner.Auth), database: max(owner.Database, 0), prefix: owner.Prefix}
		if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
			t.Errorf("%q, id %s:\nwe say        %+v\nthe extension %+v", c.savePath, c.id, want, got)
		}
	}
	t.Logf("%d of %d strings reached a server, %d were refused", reached, len(trials), refused)
	if reached < len(trials)/5 || refused < len(trials)/20 {
		t.Errorf("too few strings were reached or refused to mean something")
	}
}
