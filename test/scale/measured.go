package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
)

//go:embed measured.json
var measuredJSON []byte

// measurements are what `go run ./scale -measure all` found, with what made them.
type measurements struct {
	Command string `json:"command"`
	Date    string `json:"date"`
	Server  string `json:"server"`
	Go      string `json:"go"`
	CPUs    int    `json:"cpus"`

	Bytes      []byteCost   `json:"bytes"`
	Connection float64      `json:"server_bytes_per_idle_connection"`
	Look       float64      `json:"server_microseconds_per_look_command"` // one of those that a client sends each second
	Clients    []clientCost `json:"clients"`
	Rings      []ringCost   `json:"rings"`
	ScanRate   float64      `json:"scan_keys_per_second"` // by one connection, a batch of 512 after the other
	Rejoins    []rejoinRun  `json:"rejoins"`
	Migrations []migrateRun `json:"migrations"`
	SeenBytes  float64      `json:"migrate_bytes_per_session_in_the_tool"`
}

// byteCost is the memory of one session on one node, from used_memory of a server that holds nothing else.
type byteCost struct {
	Payload int    `json:"payload"`
	With    spread `json:"with_stamp"`    // value, key, stamp and its key, expiry of both
	Without spread `json:"without_stamp"` // value, key and expiry, as phpredis writes it
}

// spread is a mean over numbers of sessions that lie in an octave, for Redis doubles its hash tables.
type spread struct {
	Mean  float64 `json:"mean"`
	Least float64 `json:"least"`
	Most  float64 `json:"most"`
}

// clientCost is what an idle Client holds and does once all its nodes are up.
type clientCost struct {
	Nodes       int     `json:"nodes"`
	Up          int     `json:"up"`                   // nodes, after two minutes at most; fewer than all: nothing else was measured
	HeapBytes   float64 `json:"heap_and_stack_bytes"` // after a collection; the ring's table is in it
	Goroutines  int     `json:"goroutines"`
	Connections int     `json:"connections"`
	UpSeconds   float64 `json:"seconds_from_open_until_all_are_up"`
	Commands    float64 `json:"commands_per_second"` // of all nodes together
	CPU         float64 `json:"cpu_of_the_client"`   // cores
}

type ringCost struct {
	Nodes      int     `json:"nodes"`
	Seconds    float64 `json:"build_seconds"`
	TableBytes float64 `json:"bytes"`
}

// rejoinRun is one pass of bringing a node up to date, on real servers.
type rejoinRun struct {
	Nodes    int     `json:"nodes"`
	Copies   int     `json:"copies"`
	Sessions int     `json:"sessions"`
	Empty    bool    `json:"empty"` // the node came back empty; else it only lost its mark
	Scanned  int64   `json:"scanned"`
	Copied   int64   `json:"copied"`
	Scans    int64   `json:"scan_commands"`
	Bulk     int64   `json:"bulk_mget_commands"` // more or less: reads of single sessions are in it
	Seconds  float64 `json:"seconds"`
}

// migrateRun is one Migrate on real servers.
type migrateRun struct {
	From    int     `json:"from_nodes"`
	To      int     `json:"to_nodes"`
	Copies  int     `json:"copies"`
	Scanned int64   `json:"scanned"`
	Moved   int64   `json:"moved"`
	Seconds float64 `json:"seconds"`
}

func measured() (*measurements, error) {
	m := new(measurements)
	if err := json.Unmarshal(measuredJSON, m); err != nil {
		return nil, fmt.Errorf("measured.json: %w", err)
	}
	return m, nil
}

func (m *measurements) save(file string) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(m); err != nil {
		return err
	}
	return os.WriteFile(file, b.Bytes(), 0o644)
}

// bytesOf is the memory of a session of payload bytes on one node.
func (m *measurements) bytesOf(payload int) (byteCost, error) {
	for _, b := range m.Bytes {
		if b.Payload == payload {
			return b, nil
		}
	}
	return byteCost{}, fmt.Errorf("-payload %d was not measured; see measured.json for those that were", payload)
}
