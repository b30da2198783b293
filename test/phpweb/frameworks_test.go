package phpweb

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/sessionring/sessionring"
	"github.com/sessionring/sessionring/internal/phptest"
	"github.com/sessionring/sessionring/internal/redistest"
	"github.com/sessionring/sessionring/phpsession"
)

// TestSymfony reads and changes a session as Symfony keeps it: objects, enums, shared objects, binary strings and
// bags; PHP then looks at every value of it.
func TestSymfony(t *testing.T) {
	phptest.Require(t)
	nodes := redistest.Nodes(t, 3)
	for _, handler := range phpsession.Handlers() {
		t.Run(string(handler), func(t *testing.T) {
			s := open(t, nodes, form{handler: handler})
			b := s.browser()
			b.get("/symfony.php?do=fill")
			untouched := check(t, b)
			if untouched["locale"] != "en" || untouched["same"] != true {
				t.Fatalf("the page does not keep what it should: %v", untouched)
			}
			before := s.stored(b.id())
			b.want("/german ", "")
			changed := s.stored(b.id())
			if changed == before {
				t.Fatal("Go changed nothing")
			}
			b.want("/german ", "") // the same once more
			if s.stored(b.id()) != changed {
				t.Error("a change to the same value changed the session")
			}
			want := map[string]any{}
			for k, v := range untouched {
				want[k] = v
			}
			want["locale"] = "de"
			want["flashes"] = map[string]any{"notice": []any{"Ab jetzt auf Deutsch."}}
			if got := check(t, b); !reflect.DeepEqual(got, want) {
				t.Errorf("PHP reads\n%v\nwant\n%v", got, want)
			}
			// PHP has shown the message. But for the language the session is what it was before.
			if got := strings.Replace(s.stored(b.id()), "de", "en", 1); got != before {
				t.Errorf("the session is\n%q\nand was\n%q", got, before)
			}
			s.noProblems()
		})
	}
}

func check(t *testing.T, b *browser) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(b.get("/symfony.php?do=check")), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// laravel is a session as Laravel's file, database and Redis stores keep it: one serialized array. The Redis store
// is a cache and serializes that string once more.
const laravel = `$session = [
	'_token' => 'Xk3vJ0pQ8sYtRb5nWc2eLm9aZd4fGh7uTiOy1rKx',
	'_previous' => ['url' => 'https://shop.example/cart?page=2', 'route' => null],
	'_flash' => ['old' => [], 'new' => ['status']],
	'status' => "saved \u{2713}",
	'login_web_59ba36addc2b2f9401580f014c7f58ea4e30989d' => 42,
	'password_hash_web' => '$2y$12$abcdefghijklmnopqrstuv',
	'url' => [],
	'price' => 750.0,
];`

// TestLaravel changes what Laravel keeps, by a Client and package phpsession: Laravel has a session store of its
// own, PHP's session settings mean nothing to it.
func TestLaravel(t *testing.T) {
	phptest.Require(t)
	node := redistest.Node(t)
	client, err := sessionring.Open(node.SavePath("prefix=laravel_database_laravel_cache_:", "distribution=phpredis"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	const id = "Q2hhbmdlIG1lIGJlZm9yZSB5b3UgZ28gbGl2ZSBv"
	stored := phptest.MustRun(t, phptest.Script{Code: laravel + `echo serialize(serialize($session));`})
	if err := client.Set(t.Context(), id, []byte(stored)); err != nil {
		t.Fatal(err)
	}

	data, err := client.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	changed, err := WithLaravel(data, func(s *phpsession.Session) error { return nil })
	if err != nil || string(changed) != stored {
		t.Fatalf("unchanged it becomes %q, %v", changed, err)
	}
	changed, err = WithLaravel(data, func(s *phpsession.Session) error {
		user, err := phpsession.Get[int](s, "login_web_59ba36addc2b2f9401580f014c7f58ea4e30989d")
		if err != nil || user != 42 {
			t.Errorf("the user is %d, %v", user, err)
		}
		return s.Put("https://shop.example/", "_previous", "url")
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Set(t.Context(), id, changed); err != nil {
		t.Fatal(err)
	}
	raw, err := node.Do("GET", "laravel_database_laravel_cache_:"+id)
	if err != nil {
		t.Fatal(err)
	}
	phptest.MustRun(t, phptest.Script{
		Args: []string{raw.(string)},
		Code: laravel + `
$session['_previous']['url'] = 'https://shop.example/';
if ($argv[1] !== serialize(serialize($session))) {
	fwrite(STDERR, 'not what Laravel would have written: ' . $argv[1]);
}`,
	})
}
