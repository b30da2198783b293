package faults

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sessionring/sessionring/internal/redistest"
)

// held is what the nodes hold of a session.
type held struct {
	stamps, values []string // by node
}

// inspect looks at the nodes behind everybody's back.
func (r *run) inspect(sessions []int64) map[int64]held {
	r.t.Helper()
	out := map[int64]held{}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, s := range sessions {
		out[s] = held{make([]string, len(r.servers)), make([]string, len(r.servers))}
	}
	for i, n := range r.servers {
		if n.State() != redistest.Running {
			continue
		}
		c, err := n.Connect(ctx)
		r.must(err)
		for _, s := range sessions {
			id := sessionID(r.load.Space, s)
			got, err := c.Do(ctx, "MGET", "PHPREDIS_SESSION:"+id, stampKey(id))
			r.must(err)
			list := got.([]any)
			out[s].values[i], _ = list[0].(string)
			out[s].stamps[i], _ = list[1].(string)
		}
		c.Close()
	}
	return out
}

// checkCopies demands that every session has its copies, alike, on its owners and nowhere else, without anybody
// reading it, and that no hint is left.
func (r *run) checkCopies() {
	r.t.Helper()
	sessions := r.sessions()
	last := int64(-1)
	defer func() {
		if r.t.Failed() {
			r.tell(last)
		}
	}()
	waitUntil(r.t, "every session has its copies on its owners and nowhere else", recovery, func() error {
		missing, behind, strays := 0, 0, 0
		examples, kinds := map[string]string{}, map[string]int{}
		for s, h := range r.inspect(sessions) {
			id := sessionID(r.load.Space, s)
			owners := r.owners(id)
			newest := newestOf(h.stamps)
			if newest == "" {
				continue
			}
			for i := range r.servers {
				kind := ""
				switch {
				case !slices.Contains(owners, i) && (h.stamps[i] != "" || h.values[i] != ""):
					kind = "stray"
					strays++
				case !slices.Contains(owners, i):
				case h.stamps[i] == "":
					kind = "missing"
					missing++
				case strings.HasSuffix(newest, "d") && strings.HasSuffix(h.stamps[i], "d"):
					// Destroyed twice: as good as once.
				case versionOf(h.stamps[i]) != versionOf(newest) || h.values[i] != h.values[owners[0]]:
					kind = "behind"
					behind++
				}
				if kind != "" {
					kinds[fmt.Sprint(kind, " at ", i)]++
					last = s
					examples[kind] = fmt.Sprintf("session %d, owners %v: stamps %q", s, owners, h.stamps)
				}
			}
		}
		hints := map[string]any{}
		for _, n := range r.servers {
			if n.State() != redistest.Running {
				continue
			}
			keys, err := n.Do("KEYS", "sessionring:h:*")
			r.must(err)
			for _, k := range keys.([]any) {
				hints[fmt.Sprint(k, " at ", n.Addr())], err = n.Do("SMEMBERS", k)
				r.must(err)
			}
		}
		if missing+behind+strays+len(hints) == 0 {
			return nil
		}
		draining := ""
		for i, a := range r.apps {
			v, err := a.View()
			r.must(err)
			if v.Draining {
				draining += fmt.Sprint(" client ", i)
			}
		}
		return fmt.Errorf("%d copies are missing, %d are behind, %d stand where no owner is (%v); for example %v; hints %v; draining:%s", missing, behind, strays, kinds, examples, hints, draining)
	})
}

// tell shows what was changed of a session on the nodes, by their append-only files, as far as these go back.
func (r *run) tell(session int64) {
	if !tracing || session < 0 {
		return
	}
	id := sessionID(r.load.Space, session)
	for i, n := range r.servers {
		got, err := n.Do("CONFIG", "GET", "dir")
		if err != nil {
			continue
		}
		files, _ := filepath.Glob(filepath.Join(got.([]any)[1].(string), "appendonlydir", "*.incr.aof"))
		for _, f := range files {
			data, err := os.ReadFile(f)
			r.must(err)
			at := ""
			for len(data) > 0 {
				var args []string
				if args, data = nextCommand(data); args == nil {
					at = strings.TrimSpace(string(data[:bytes.IndexByte(data, '\n')]))
					data = data[bytes.IndexByte(data, '\n')+1:]
				} else if slices.ContainsFunc(args, func(a string) bool { return strings.Contains(a, id) }) {
					for j := range args {
						args[j] = args[j][:min(len(args[j]), 60)]
					}
					r.t.Logf("node %d %s: %q", i, at, args)
				}
			}
		}
	}
}

// nextCommand takes one command off an append-only file; nil where something else comes first.
func nextCommand(data []byte) (args []string, rest []byte) {
	line := func() string {
		i := bytes.IndexByte(data, '\n')
		s := string(bytes.TrimSpace(data[:i]))
		data = data[i+1:]
		return s
	}
	if data[0] != '*' {
		return nil, data
	}
	n, _ := strconv.Atoi(line()[1:])
	for range n {
		size, _ := strconv.Atoi(line()[1:])
		args = append(args, string(data[:size]))
		data = data[size+2:]
	}
	return args, data
}

// versionOf is a stamp without its last letter, which tells a write from a repair.
func versionOf(stamp string) string { return stamp[:min(len(stamp), 27)] }

// newestOf is the stamp that wins: a tombstone, else the greatest.
func newestOf(stamps []string) string {
	best := ""
	for _, s := range stamps {
		dead, bestDead := strings.HasSuffix(s, "d"), strings.HasSuffix(best, "d")
		if dead != bestDead && s != "" && best != "" {
			if dead {
				best = s
			}
			continue
		}
		best = max(best, s)
	}
	return best
}
