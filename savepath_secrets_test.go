package sessionring

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestSavePathKeepsPasswordsToItself(t *testing.T) {
	const canary = "zQ7xK9wV"
	half, rest := canary[:4], canary[4:]
	for _, s := range []string{
		"tcp://h?auth=" + canary, "tcp://h?auth[]=u&auth[]=" + canary, "tcp://h?auth[pass]=" + canary, "tcp://h?auth[1]=" + canary + "&auth[0]=x",
		"tcp://h?auth=%7AQ7xK9wV", "tcp://h?%61uth=" + canary, "tcp://h?auth%5B%5D=" + canary, "tcp://h?AUTH=" + canary, "tcp://h?pass=" + canary,
		"tcp://h?password=" + canary + "&weight=0", "tcp://h?auht=" + canary, "tcp://h?x=" + canary, "tcp://h?auth=a&" + canary, "tcp://h?auth=a&" + canary + "=b",
		"tcp://h?auth=a&b=c&" + canary, "tcp://h?auth=x#" + canary, "tcp://h#auth=" + canary, "tcp://h?weight=0?auth=" + canary, "tcp://h?weight=2;auth=" + canary,
		"tcp://h?weight=2&amp;auth=" + canary,
		"tcp://u:" + canary + "@h", "tcp://" + canary + "@h", "tcp://u:" + canary + "@h:99999", "redis://u:" + canary + "@h", "redis://u:" + canary + "@h/abc",
		"redis://u:" + canary, "redis://u:" + canary + "/x@h", "redis://u:" + canary + "?x@h", "redis://u:" + canary + "#x@h", "redis://u:p%4@" + canary + "@h",
		"redis://" + canary + "@h", "redis://u:x/" + canary + "@h", "redis://u:x?" + canary + "@h", "redis://u:1?" + canary + "@h", "redis://u:1#" + canary + "@h",
		"TCP://u:" + canary + "@h", "http://u:" + canary + "@h", "u:" + canary + "@h:1", ":" + canary + "@h", canary + "@h", "//u:" + canary + "@h?weight=0",
		"tls://h?stream[passphrase]=" + canary, "tls://h?stream[passphrase]=" + canary + "&weight=0", "tls://h?stream[" + canary, "tls://h?stream_passphrase=" + canary,
		"tcp://h?stream[passphrase][]=" + canary, "tcp://h?copies=x&auth=" + canary, "tcp://a?copies=1&auth=" + canary + ",tcp://b?copies=2",
		"sentinel://h/m?auth=" + canary + "&sentinel_auth=" + canary, "sentinel://u:" + canary + "@h/m", "sentinel://h/m?sentinel_auth[user]=u&sentinel_auth[pass]=" + canary,
		"sentinel://h/m?auth=x," + canary, "sentinel://h:" + canary + "/m", "sentinel://h/m?x=" + canary, "sentinel://h/m@" + canary + "@", "sentinel://h/u:" + canary + "@h",
		"seed[]=h:1&auth=" + canary, "seed[]=h:1&auth[]=u&auth[]=" + canary + "&weight=1", "seed[]=u:" + canary + "@h:1", "seed[]=u:" + canary + "@h:x", "seed[]=h:" + canary,
		"seed[]=h:1&auth=a&" + canary + "=1", "seed[]=redis://u:" + canary + "@h:1",
		// Torn off by a comma or a blank; the string is refused for something else.
		"tcp://h?weight=0&auth=a," + canary, "tcp://h?auth=a," + canary + "?weight=0", "tcp://h?auth=a " + canary + "!", "tcp://h?auth=a," + canary + "!,x," + canary + "!",
		"tcp://h?auth=a," + canary + ":x", "tcp://h?auth=a,b=" + canary, "tcp://h?auth=a,b://" + canary + "!", "tcp://h?auth=a,/" + canary + "://", "redis://u:x," + canary + "@h",
		"redis://u:" + canary + ",x@h", "redis://u:1," + canary + "@h", "tcp://h?auth=a,x://" + canary, "tcp://h?password=a," + canary + "!",
		"redis://u:x,y," + canary + "%21", "tcp://auth=x," + canary + "!", "redis://u:" + canary + "," + canary + "?weight=0",
		"tcp://h?auth=" + half + "," + rest + "!", "tcp://h?weight=0&auth=" + half + "," + rest,
	} {
		for _, opts := range [][]ParseOption{nil, {Lenient()}} {
			sp, err := ParseSavePath(s, opts...)
			for form, text := range shownForms(t, sp, err) {
				if leaks(text, canary) || strings.Contains(s, ","+rest) && leaks(text, rest) || strings.Contains(s, half+",") && leaks(text, half) {
					t.Errorf("%s: %s shows the password:\n%s", s, form, text)
					break
				}
			}
		}
	}
	// A second ? does not begin a parameter: all of it is the prefix, as in phpredis. The field holds it; what is
	// printed of the whole does not.
	for _, s := range []string{"tcp://h?prefix=x?auth=" + canary, "tcp://h?prefix=x%26auth=" + canary, "tcp://h?prefix=x%3Fpassword%3D" + canary} {
		sp := mustParse(t, s)
		mustWarn(t, sp, "only & parts")
		if text := fmt.Sprint(sp, sp.Nodes[0], sp.Warnings); leaks(text, canary) {
			t.Errorf("%s: %s", s, text)
		}
	}
	// A rest that is a host's name is read as a host, as in phpredis: that is told, without repeating it.
	sp := mustParse(t, "tcp://h?auth=a,"+canary)
	mustWarn(t, sp, "offset 15, ***", "%2C")
	for _, w := range sp.Warnings {
		if leaks(w.String(), canary) {
			t.Error(w)
		}
	}
}

// shownForms returns every text that a program may print or store of an outcome.
func shownForms(t testing.TB, sp *SavePath, err error) map[string]string {
	t.Helper()
	forms := map[string]string{}
	add := func(name string, v any) {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			forms[name+" with "+verb] = fmt.Sprintf(verb, v)
		}
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		forms[name+" as JSON"] = string(raw)
	}
	if err != nil {
		var bad *SavePathError
		if !errors.As(err, &bad) {
			t.Fatalf("%T is no *SavePathError", err)
		}
		forms["Error()"] = err.Error()
		add("the error", bad)
		add("its entries", bad.Entries)
		return forms
	}
	forms["String()"] = sp.String()
	add("*SavePath", sp)
	add("SavePath", *sp)
	add("the nodes", sp.Nodes)
	add("the auth of the Sentinels", sp.SentinelAuth)
	add("the warnings", sp.Warnings)
	for _, n := range sp.Nodes[:min(len(sp.Nodes), 3)] {
		forms["ID()"] += n.ID()
		add("a node", n)
		add("its auth", n.Auth)
		add("its stream options", n.Stream)
		add("a password", n.Auth.Password)
		add("a pointer to a password", &n.Auth.Password)
	}
	return forms
}

// leaks reports whether text holds the password as it is, in hexadecimal or with JSON's escapes.
func leaks(text, password string) bool {
	return strings.Contains(text, password) || strings.Contains(text, fmt.Sprintf("%x", password)) || strings.Contains(text, escapeValue(password))
}
