package sessionring

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sessionring/sessionring/internal/phptest"
)

// randomText draws from pieces that matter to a parser, so that odd neighbours meet.
func randomText(r *rand.Rand, pieces []string, most int) string {
	var b strings.Builder
	for range 1 + r.IntN(most) {
		b.WriteString(pieces[r.IntN(len(pieces))])
	}
	return b.String()
}

// askPHP runs code with a line of base64 for each input, and decodes a line of JSON for each answer.
func askPHP[T any](t *testing.T, code string, ini map[string]string, inputs []string) []T {
	t.Helper()
	var in strings.Builder
	for _, s := range inputs {
		in.WriteString(base64.StdEncoding.EncodeToString([]byte(s)) + "\n")
	}
	out := phptest.MustRun(t, phptest.Script{Code: code, INI: ini, Stdin: strings.NewReader(in.String())})
	var answers []T
	for line := range strings.Lines(out) {
		var answer T
		if err := json.Unmarshal([]byte(line), &answer); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		answers = append(answers, answer)
	}
	if len(answers) != len(inputs) {
		t.Fatalf("%d answers to %d inputs", len(answers), len(inputs))
	}
	return answers
}

func TestPHPParseURL(t *testing.T) {
	phptest.Require(t)
	r := rand.New(rand.NewPCG(1, 2))
	pieces := []string{"tcp", "file", "h", "a.b", "127.0.0.1", ":", ":", "/", "/", "//", "://", "?", "#", "@", "[", "]", "::1", "80", "65536", "0", "99999", "1234567", "-", "+", "_", "%", "\x01", "\xff", "=", "c:"}
	var inputs []string
	for range 20000 {
		inputs = append(inputs, randomText(r, pieces, 7))
	}
	type answer map[string]any // strings in base64
	answers := askPHP[answer](t, `
		while (($line = fgets(STDIN)) !== false) {
			$u = parse_url(base64_decode(trim($line)));
			if ($u === false) { echo "null\n"; continue; }
			foreach ($u as $k => $v) if (is_string($v)) $u[$k] = base64_encode($v);
			echo json_encode((object)$u), "\n";
		}`, nil, inputs)
	accepted := 0
	for i, s := range inputs {
		u, ok := parsePHPURL(s)
		if ok != (answers[i] != nil) {
			t.Errorf("%q: accepted %v, by PHP %v", s, ok, answers[i] != nil)
			continue
		}
		if !ok {
			continue
		}
		accepted++
		got := answer{}
		for _, part := range []struct {
			name, value string
			has         bool
		}{
			{"scheme", u.scheme, u.hasScheme}, {"user", u.user, u.hasUser}, {"pass", u.pass, u.hasPass}, {"host", u.host, u.hasHost},
			{"path", u.path, u.hasPath}, {"query", u.query, u.hasQuery}, {"fragment", u.fragment, u.hasFragment},
		} {
			if part.has {
				got[part.name] = base64.StdEncoding.EncodeToString([]byte(part.value))
			}
		}
		if _, ok := answers[i]["port"]; ok {
			got["port"] = float64(u.port) // for phpredis 0 and none are one
		} else if u.port != 0 {
			t.Errorf("%q: port %d, PHP finds none", s, u.port)
		}
		if fmt.Sprint(got) != fmt.Sprint(answers[i]) {
			t.Errorf("%q:\n%v, by PHP\n%v", s, got, answers[i])
		}
		if t.Failed() && i > 1000 {
			return
		}
	}
	if accepted < 5000 || accepted > len(inputs)-500 {
		t.Errorf("%d of %d were accepted: the strings do not try both", accepted, len(inputs))
	}
}

func TestPHPParseStr(t *testing.T) {
	phptest.Require(t)
	r := rand.New(rand.NewPCG(3, 4))
	pieces := []string{"a", "b", "weight", "=", "=", "&", "&", "[", "[", "]", "]", "[]", "[0]", "[1]", "[01]", "[-5]", "[x]", "[9223372036854775807]", ".", " ", "+", "%20", "%5B", "%5d", "%00", "%zz", "%", "1", "\x01", "\xff", "\n", "#", "?", ";"}
	var inputs []string
	for range 20000 {
		inputs = append(inputs, randomText(r, pieces, 14))
	}
	answers := askPHP[any](t, `
		function plain($v) { // arrays as [key, value] pairs in order of the keys, all in base64
			if (!is_array($v)) return base64_encode($v);
			ksort($v, SORT_STRING);
			$out = [];
			foreach ($v as $k => $e) $out[] = [base64_encode((string)$k), plain($e)];
			return $out;
		}
		while (($line = fgets(STDIN)) !== false) {
			$v = []; parse_str(base64_decode(trim($line)), $v);
			echo json_encode(plain($v)), "\n";
		}`, nil, inputs)
	var plain func(v *phpValue) any
	plain = func(v *phpValue) any {
		if !v.isArray() {
			return base64.StdEncoding.EncodeToString([]byte(v.str))
		}
		keys := make([]string, 0, len(v.elements))
		for key := range v.elements {
			keys = append(keys, key)
		}
		slices.Sort(keys)
		out := []any{}
		for _, key := range keys {
			out = append(out, []any{base64.StdEncoding.EncodeToString([]byte(key)), plain(v.elements[key])})
		}
		return out
	}
	arrays := 0
	for i, s := range inputs {
		q := parsePHPQuery(s)
		got := plain(q.values)
		if fmt.Sprint(got) != fmt.Sprint(answers[i]) {
			t.Errorf("%q:\n%v, by PHP\n%v", s, got, answers[i])
		}
		if strings.Count(fmt.Sprint(got), "[") > 3 {
			arrays++
		}
	}
	if arrays < 1000 {
		t.Errorf("only %d inputs made arrays", arrays)
	}
}

func TestPHPCasts(t *testing.T) {
	phptest.Require(t)
	r := rand.New(rand.NewPCG(5, 6))
	pieces := []string{"1", "2", "9", "0", "00", "9223372036854775807", "9999999999", ".", "e", "E", "+", "-", " ", "\t", "\v", "x", "inf", "nan", "0x", "_", "\x00", "e308", "e-5", "4294967297"}
	var inputs []string
	for range 20000 {
		inputs = append(inputs, randomText(r, pieces, 6))
	}
	type answer struct{ Int, Float string }
	answers := askPHP[answer](t, `
		while (($line = fgets(STDIN)) !== false) {
			$s = base64_decode(trim($line));
			echo json_encode(['Int' => (string)(int)$s, 'Float' => bin2hex(strrev(pack('d', (float)$s)))]), "\n";
		}`, nil, inputs)
	for i, s := range inputs {
		v := &phpValue{str: s}
		if got := strconv.FormatInt(v.castInt(), 10); got != answers[i].Int {
			t.Errorf("(int)%q is %s, in PHP %s", s, got, answers[i].Int)
		}
		bits, err := strconv.ParseUint(answers[i].Float, 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := v.castFloat(), math.Float64frombits(bits); got != want {
			t.Errorf("(float)%q is %v, in PHP %v", s, got, want)
		}
	}
}
