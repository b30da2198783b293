package sessionring

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// observed is what the real extension did with a save_path, see "about" in testdata/savepath.json.
type observed struct {
	Opened  bool     `json:"opened"`
	Reached bool     `json:"reached"`
	Errors  []string `json:"errors"`
	Nodes   []struct {
		Connect       []string `json:"connect"`
		ConnectWaitMS *int64   `json:"connect_wait_ms"`
		ReadWaitMS    *int64   `json:"read_wait_ms"`
		Auth          []string `json:"auth"`
		Select        *int     `json:"select"`
		KeyPrefix     *string  `json:"key_prefix"`
		TLSHello      bool     `json:"tls_hello"`
		SessionIDs    []string `json:"session_ids"`
	} `json:"nodes"`
}

type observedCase struct {
	SavePath string              `json:"save_path"`
	Observed map[string]observed `json:"observed"`
}

func observedCases(t testing.TB) []observedCase {
	t.Helper()
	raw, err := os.ReadFile("testdata/savepath.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Cases []observedCase }
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Cases) < 100 {
		t.Fatalf("only %d cases in testdata/savepath.json", len(file.Cases))
	}
	return file.Cases
}

// phpredisOwner is the extension's own rule, for an id of four bytes or more.
func phpredisOwner(nodes []Node, id string) Node {
	var sum uint32
	for _, n := range nodes {
		sum += uint32(n.Weight)
	}
	pos := binary.LittleEndian.Uint32([]byte(id)) % sum
	for _, n := range slices.Backward(nodes) {
		if pos < uint32(n.Weight) {
			return n
		}
		pos -= uint32(n.Weight)
	}
	panic("position beyond the sum of weights")
}

func TestSavePathAsPHPRedisReadsIt(t *testing.T) {
	offset := regexp.MustCompile(`error at offset (\d+)`)
	checked := 0
	for _, c := range observedCases(t) {
		want, ok := c.Observed["all versions"]
		if !ok {
			if want, ok = c.Observed["phpredis 6.1.0"]; !ok {
				t.Fatalf("%q: no observation", c.SavePath)
			}
		}
		t.Run(c.SavePath, func(t *testing.T) {
			sp, err := ParseSavePath(c.SavePath, Lenient())
			if !want.Opened {
				var bad *SavePathError
				if !errors.As(err, &bad) || !errors.Is(err, ErrSavePath) {
					t.Fatalf("the extension refuses it, we answer %v, %v", sp, err)
				}
				if m := offset.FindStringSubmatch(strings.Join(want.Errors, "\n")); m != nil {
					if got := strconv.Itoa(bad.Entries[0].Offset); got != m[1] {
						t.Errorf("offset %s, the extension says %s", got, m[1])
					}
				}
				return
			}
			if strings.HasPrefix(c.SavePath, "seed[]=") {
				if err != nil || sp.Kind != KindCluster {
					t.Fatalf("no cluster: %v, %v", sp, err)
				}
				return
			}
			addressed := false
			for _, n := range want.Nodes {
				addressed = addressed || len(n.Connect) > 0
			}
			// host:port?query is connected to nonsense (0.0.82.28) and refused here: cases.md,
			// host-port-query-without-scheme.
			never := !want.Reached && (!addressed || c.SavePath == "127.0.0.1:21020?weight=2")
			if err != nil {
				if !never {
					t.Fatalf("the extension connects, we refuse: %v", err)
				}
				return
			}
			for _, n := range want.Nodes {
				ids := n.SessionIDs
				if len(ids) == 0 {
					if len(want.Nodes) > 1 || len(n.Connect) == 0 {
						continue
					}
					ids = []string{"any id"} // one entry, or none was reached
				}
				for _, id := range ids {
					got := phpredisOwner(sp.Nodes, id)
					checked++
					if len(n.Connect) > 0 {
						address := strings.Replace(n.Connect[0], "localhost:", "127.0.0.1:", 1)
						if a := strings.Replace(got.Address, "localhost:", "127.0.0.1:", 1); a != address {
							t.Errorf("id %s: address %s, the extension's %s", id, a, address)
						}
						if wantNet := map[bool]string{false: "tcp", true: "unix"}[address[0] == '/']; got.Network != wantNet {
							t.Errorf("id %s: network %s", id, got.Network)
						}
					}
					if n.TLSHello != got.TLS && len(n.Connect) > 0 {
						t.Errorf("TLS is %v", got.TLS)
					}
					checkWait(t, "timeout", got.Timeout, n.ConnectWaitMS, 86400000, DefaultTimeout)
					if !n.TLSHello {
						checkWait(t, "read_timeout", got.ReadTimeout, n.ReadWaitMS, 60000, DefaultReadTimeout)
					}
					if n.KeyPrefix == nil {
						continue // never got so far
					}
					if got.Prefix != *n.KeyPrefix {
						t.Errorf("prefix %q, the extension's %q", got.Prefix, *n.KeyPrefix)
					}
					database := 0
					if n.Select != nil {
						database = *n.Select
					}
					if max(got.Database, 0) != database {
						t.Errorf("database %d, the extension's %d", got.Database, database)
					}
					if auth := authArgs(got.Auth); !slices.Equal(auth, n.Auth) {
						t.Errorf("AUTH with %q, the extension's %q", auth, n.Auth)
					}
				}
			}
		})
	}
	if checked < 300 {
		t.Errorf("only %d observations were compared", checked)
	}
}

func checkWait(t *testing.T, name string, got time.Duration, ms *int64, php int64, ours time.Duration) {
	t.Helper()
	switch {
	case ms == nil:
	case *ms == php:
		if got != ours {
			t.Errorf("%s %v where the string names none, want %v", name, got, ours)
		}
	case *ms < 0:
		if got >= 0 {
			t.Errorf("%s %v, want none", name, got)
		}
	case got.Milliseconds() != *ms:
		t.Errorf("%s %v, the extension's %d ms", name, got, *ms)
	}
}

// authArgs returns the arguments of AUTH, nil for none.
func authArgs(a Auth) []string {
	switch {
	case a.Password.IsZero():
		return nil
	case a.HasUser:
		return []string{a.Username, a.Password.Reveal()}
	}
	return []string{a.Password.Reveal()}
}
