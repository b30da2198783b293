package sessionring

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// withoutPlaces returns a copy without what depends on how a string is written: offsets and warnings.
func withoutPlaces(sp *SavePath) SavePath {
	c := *sp
	c.Warnings = nil
	c.Nodes = append([]Node(nil), sp.Nodes...)
	for i := range c.Nodes {
		c.Nodes[i].Offset = 0
	}
	return c
}

// withOtherSecrets returns a copy in which every password is another one.
func withOtherSecrets(sp *SavePath) *SavePath {
	c := *sp
	other := func(s *Secret) {
		if !s.IsZero() {
			*s = NewSecret("another " + s.Reveal())
		}
	}
	other(&c.SentinelAuth.Password)
	c.Nodes = append([]Node(nil), sp.Nodes...)
	for i := range c.Nodes {
		other(&c.Nodes[i].Auth.Password)
		other(&c.Nodes[i].Stream.Passphrase)
	}
	return &c
}

var secretValue = regexp.MustCompile(`(?i)(?:auth|pass|pwd|secret|token|cred|user)[^=&,\s]*=[^&,\s@?]*`)

var behindBracket = regexp.MustCompile(`(?i)(?:\]|%5D)[^=&]*(?:auth|pass|pwd|secret|token|cred|user)`)

// rotateSecrets exchanges the letters of every value of an auth-like parameter, and nothing else.
func rotateSecrets(s string) string {
	return secretValue.ReplaceAllStringFunc(s, func(pair string) string {
		name, value, _ := strings.Cut(pair, "=")
		b := []byte(value)
		for i := 0; i < len(b); i++ {
			switch c := b[i]; {
			case c == '%':
				i += 2 // an escape stays one
			case c >= 'g' && c <= 'y', c >= 'G' && c <= 'Y': // beyond hexadecimal digits
				b[i]++
			case c == 'z' || c == 'Z':
				b[i] = c - 'z' + 'g'
				if c == 'Z' {
					b[i] = 'G'
				}
			}
		}
		return name + "=" + string(b)
	})
}

func FuzzParseSavePath(f *testing.F) {
	for _, c := range observedCases(f) {
		f.Add(c.SavePath)
	}
	for _, s := range []string{
		"tcp://h?auth[user]=u&auth[pass]=p%40ss&stream[cafile]=file:///x&stream[passphrase]=longpassword",
		"rediss://us%65r:p%40ssword9@redis.example/3?weight=2&prefix=%00%ff",
		"seed[]=h1:7000&seed[]=tls://h2:7001&timeout=2&read_timeout=1.5&persistent=1&auth[]=u&auth[]=p&failover=error&stream[verify_peer]=0&lifetime=60",
		"sentinel://s1:26380,s2,[::1]:5/my%2Fmaster?auth=secret1&sentinel_auth[user]=u&sentinel_auth[pass]=secret2&database=2&deadline=.5",
		"tcp://a?distribution=phpredis&copies=3&locking=1&lock_retries=-1&lock_wait=1e1, unix:/c:/x?timeout=1e-9&read_timeout=-1e999&retry_interval=99999999999999",
		"tcp://h?auth=a,b c://d,/e?auth=f#g@h", "file:////x", "tcp:/x/../y", "h?stream[cafile]=x", "tcp://[fe80::1%eth0]:1", "[::1]:2?weight=3", "a\x01b?prefix=\x7f",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		strict, strictErr := ParseSavePath(s)
		lenient, lenientErr := ParseSavePath(s, Lenient())
		if strictErr == nil && (lenientErr != nil || !reflect.DeepEqual(withoutPlaces(strict), withoutPlaces(lenient))) {
			t.Fatalf("strict parsing accepts, lenient does not or reads it otherwise: %v", lenientErr)
		}
		for _, err := range []error{strictErr, lenientErr} {
			if err != nil {
				checkSavePathError(t, s, err)
			}
		}
		checkUnmoved(t, s)
		if lenientErr != nil {
			return
		}
		checkAccepted(t, s, lenient)
	})
}

func checkSavePathError(t *testing.T, s string, err error) {
	t.Helper()
	var bad *SavePathError
	if !errors.As(err, &bad) || !errors.Is(err, ErrSavePath) || len(bad.Entries) == 0 {
		t.Fatalf("%T: %v", err, err)
	}
	for _, e := range bad.Entries {
		if e.Offset < 0 || e.Offset > len(s) || e.Problem == "" || e.Remedy == "" || e.Index < -1 {
			t.Fatalf("%+v", e)
		}
		if !utf8.ValidString(e.Error()) || strings.ContainsFunc(e.Error(), isControl) {
			t.Fatalf("unprintable: %q", e.Error())
		}
	}
}

// checkUnmoved checks that what is shown of s stays the same when the values of its auth parameters change.
func checkUnmoved(t *testing.T, s string) {
	t.Helper()
	r := rotateSecrets(s)
	if r == s || strings.HasPrefix(strings.TrimSpace(r), "sentinel") {
		return
	}
	if behindBracket.MatchString(s) { // seed[]auth=host:1, which PHP reads as seed[]
		return
	}
	shown := func(s string) string {
		sp, err := ParseSavePath(s, Lenient())
		_, strict := ParseSavePath(s)
		if err != nil {
			return fmt.Sprintf("%v %v", err, strict)
		}
		for i := range sp.Nodes {
			sp.Nodes[i].Auth.Username = "" // no secret, and shown
			if strings.Contains(sp.Nodes[i].Address, "=") {
				return "" // the path of a socket, shown whatever it holds
			}
		}
		return fmt.Sprintf("%v %v %v", sp, sp.Warnings, strict)
	}
	if a, b := shown(s), shown(r); a != b && a != "" && b != "" {
		t.Fatalf("what is shown depends on a password:\n%q\n%q\n%s\n%s", s, r, a, b)
	}
}

func checkAccepted(t *testing.T, s string, sp *SavePath) {
	t.Helper()
	if len(sp.Nodes) == 0 || len(sp.Nodes) > MaxSavePathEntries {
		t.Fatalf("%d nodes", len(sp.Nodes))
	}
	for i, n := range sp.Nodes {
		if n.Index != i || n.Offset < 0 || n.Offset >= len(s) || n.Weight < 1 || n.Timeout <= 0 || n.ReadTimeout == 0 ||
			n.RetryInterval < 0 || n.Database < -1 || n.Address == "" || n.ID() == "" || n.Host() == "" {
			t.Fatalf("%#v", n)
		}
	}
	again, err := ParseSavePath(sp.Reveal())
	if err != nil {
		t.Fatalf("the rendered %q is refused: %v", sp.Reveal(), err)
	}
	if a, b := withoutPlaces(sp), withoutPlaces(again); !reflect.DeepEqual(a, b) {
		t.Fatalf("rendered as %q:\n%#v\n%#v", sp.Reveal(), a, b)
	}
	if again.Reveal() != sp.Reveal() {
		t.Fatalf("rendered as %q and then as %q", sp.Reveal(), again.Reveal())
	}
	if _, err := ParseSavePath(sp.String()); err != nil {
		t.Fatalf("the masked %q is refused: %v", sp.String(), err)
	}

	// Nothing that is printed depends on a password.
	other := withOtherSecrets(sp)
	a, b := shownForms(t, sp, nil), shownForms(t, other, nil)
	for form := range a {
		if a[form] != b[form] && !strings.Contains(form, "pointer") {
			t.Fatalf("%s depends on a password:\n%s\n%s", form, a[form], b[form])
		}
	}
	public := sp.MasterName + sp.SentinelAuth.Username
	for _, n := range sp.Nodes {
		public += "\n" + n.Address + n.Prefix + n.PersistentID + n.Auth.Username + fmt.Sprint(n.Stream)
	}
	for _, n := range sp.Nodes {
		for _, secret := range []Secret{n.Auth.Password, n.Stream.Passphrase, sp.SentinelAuth.Password} {
			// Shorter ones, and plain words, stand in the texts anyway.
			if p := secret.Reveal(); len(p) >= 6 && strings.ContainsAny(p, "0123456789") && strings.ContainsAny(p, "jkqxyzJKQXYZ") && !strings.Contains(public, p) {
				for form, text := range a {
					if strings.Contains(text, p) {
						t.Fatalf("%s holds a password:\n%s", form, text)
					}
				}
			}
		}
	}
}

// FuzzRenderSavePath renders nodes that nobody parsed: any bytes in user, password, prefix, options.
func FuzzRenderSavePath(f *testing.F) {
	f.Add("user", "p@ss,w o+r%d#?&=", "PREFIX:", "/run/c:/x", 3)
	f.Add("", "", "", "/", 1)
	f.Add("\x00\xff", "\n", "{tag}", "//x", 1<<31-1)
	f.Fuzz(func(t *testing.T, user, password, prefix, file string, weight int) {
		node := Node{
			Network: "tcp", Address: "h:1", TLS: true, Weight: max(1, weight&(1<<31-1)), Timeout: DefaultTimeout, ReadTimeout: DefaultReadTimeout,
			Database: weight & 15, Prefix: prefix, PersistentID: file, Auth: Auth{HasUser: user != "", Username: user, Password: NewSecret(password)},
			Stream: StreamOptions{PeerName: file, Passphrase: NewSecret(password), SkipVerifyName: weight&1 == 0},
		}
		sp := &SavePath{Nodes: []Node{node}}
		for _, kind := range []Kind{KindNodes, KindCluster, KindSentinel} {
			sp.Kind = kind
			want := withoutPlaces(sp)
			switch kind {
			case KindCluster: // has neither
				want.Nodes[0].Database, want.Nodes[0].Weight, want.Nodes[0].PersistentID = -1, 1, ""
			case KindSentinel:
				want.MasterName = "m/x"
				want.SentinelAuth = Auth{Password: NewSecret(password)}
				want.Nodes[0].Weight = 1
			}
			in := want
			got, err := ParseSavePath(in.Reveal())
			if err != nil {
				t.Fatalf("%q: %v", in.Reveal(), err)
			}
			if got := withoutPlaces(got); !reflect.DeepEqual(got, want) {
				t.Fatalf("%q:\n%#v\n%#v", in.Reveal(), got, want)
			}
		}
	})
}
