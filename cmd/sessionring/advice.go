package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/sessionring/sessionring"
)

// finding is something that endangers sessions, and what to do about it.
type finding struct {
	Index   *int   `json:"index"` // of the node; null: of the save_path as a whole
	Node    string `json:"node,omitempty"`
	Level   string `json:"level"` // error: sessions cannot be served or will be lost; warning: they may be
	Problem string `json:"problem"`
	Remedy  string `json:"remedy"`
}

const (
	levelError   = "error"
	levelWarning = "warning"
)

// String is one line.
func (f finding) String() string {
	where := ""
	if f.Index != nil {
		where = fmt.Sprintf("#%d %s: ", *f.Index, f.Node)
	}
	return where + f.Problem + "; " + f.Remedy
}

// judge says what is wrong with nodes that were asked.
func judge(client *sessionring.Client, nodes []*nodeReport) []finding {
	var all []finding
	for i, n := range nodes {
		add := func(level, problem, remedy string) {
			all = append(all, finding{Index: &i, Node: n.status.Node, Level: level, Problem: problem, Remedy: remedy})
		}
		told := n.info.Role == "slave" || n.info.ClusterMember // judgeServer says it better
		if err := n.err(); err != nil && !told {
			problem, remedy := explainNodeError(err)
			add(levelError, problem, remedy)
		}
		if n.infoErr != nil || n.info.Version == "" {
			continue
		}
		judgeServer(client, n.info, add)
		if n.status.Debt > 0 {
			add(levelWarning, count(int(n.status.Debt), "session")+" to be copied to it yet", "the applications do that by themselves; look again later")
		}
		if t := n.tally; t != nil && t.held >= 100 && t.misplaced*10 > t.held {
			add(levelWarning, fmt.Sprintf("%d of its %d sessions belong to other nodes", t.misplaced, t.held),
				"they were placed by another node list or distribution, or stand in for a node that is down")
		}
	}
	return all
}

// judgeServer looks at what a server says of itself.
func judgeServer(client *sessionring.Client, s sessionring.ServerInfo, add func(level, problem, remedy string)) {
	if s.Role == "slave" {
		primary := "its primary"
		if s.Primary != "" {
			primary = "its primary, " + s.Primary + ","
		}
		add(levelError, "it is a read-only replica: no session can be written to it", "list "+primary+" instead, or use sentinel://…")
	}
	if s.ClusterMember && client.SavePath().Kind == sessionring.KindNodes {
		add(levelError, "it is a member of a Redis Cluster, which distributes keys by itself", "write the save_path as "+clusterForm(client.SavePath()))
	}
	if s.EvictedKeys > 0 {
		add(levelWarning, fmt.Sprintf("it has thrown out %d keys for want of memory since it started: sessions among them", s.EvictedKeys),
			"give it more maxmemory, or the sessions shorter lifetimes")
	}
	switch policy := s.EvictionPolicy; {
	case strings.HasPrefix(policy, "allkeys-"):
		add(levelWarning, "maxmemory-policy is "+policy+": when memory is full it throws out live sessions, and users are logged out",
			"CONFIG SET maxmemory-policy noeviction (and the same in redis.conf): a full node then refuses writes, and another takes them")
	case strings.HasPrefix(policy, "volatile-") && s.MaxMemory > 0:
		add(levelWarning, "maxmemory-policy is "+policy+": sessions have an expiry, so when memory is full it throws them out",
			"CONFIG SET maxmemory-policy noeviction (and the same in redis.conf)")
	}
	if s.MaxMemory > 0 && s.UsedMemory*10 > s.MaxMemory*9 {
		add(levelWarning, fmt.Sprintf("%.0f %% of its maxmemory is in use", 100*float64(s.UsedMemory)/float64(s.MaxMemory)),
			"give it more maxmemory before it refuses writes or throws sessions out")
	}
	if ring := client.Ring(); !s.Persistence && ring != nil && ring.Copies() == 1 {
		add(levelWarning, "it keeps nothing on disk, and each session has one copy: a restart loses its sessions",
			"use copies=2 with two nodes or more, or appendonly yes")
	}
}

// clusterForm is the save_path of a Redis Cluster with these nodes as seeds.
func clusterForm(sp *sessionring.SavePath) string {
	var seeds []string
	for _, n := range sp.Nodes {
		seeds = append(seeds, "seed[]="+n.Address)
	}
	return strings.Join(seeds, "&")
}

// explainNodeError says what is wrong with a node that cannot be used, without its name, and what to do about it.
func explainNodeError(err error) (problem, remedy string) {
	cause := err
	for ne := (*sessionring.NodeError)(nil); errors.As(cause, &ne); {
		cause = ne.Err // who prints it names the node
	}
	problem = plain(cause)
	switch text := strings.ToLower(problem); {
	case errors.Is(err, sessionring.ErrAuth):
		return problem, "check auth= in the save_path against requirepass or the ACL of the server"
	case errors.Is(err, sessionring.ErrDatabase):
		return problem, "databases count from 0: take a smaller database=, or raise databases in redis.conf"
	case errors.Is(err, sessionring.ErrClusterNode):
		return problem, "write the save_path in the form for Redis Cluster, seed[]=host:port&seed[]=…"
	case errors.Is(err, sessionring.ErrReplica):
		return problem, "list its primary instead"
	case strings.Contains(text, "connection refused"):
		return "connection refused", "nothing listens there: start the server, or mend the address or port in the save_path"
	case strings.Contains(text, "no such host"), strings.Contains(text, "lookup"):
		return "host name not found", "the name does not resolve on this machine: mend it in the save_path or the DNS"
	case strings.Contains(text, "certificate"), strings.Contains(text, "tls"):
		return problem, "check stream[cafile], stream[peer_name] and whether the port speaks TLS"
	case errors.Is(err, sessionring.ErrTimeout), strings.Contains(text, "timeout"), strings.Contains(text, "deadline"):
		return "no answer in time", "it hangs, or a firewall drops what is sent to it: look at the server and at the way there"
	case strings.Contains(text, "loading"):
		return problem, "it reads its data from disk; wait"
	}
	return problem, "look at the server"
}
