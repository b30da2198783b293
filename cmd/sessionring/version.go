package main

import (
	"context"
	"runtime"
	"runtime/debug"
)

type versionCmd struct{}

// versionJSON is the line of version --json.
type versionJSON struct {
	Version  string `json:"version"` // "(devel)" when built from a work tree
	Revision string `json:"revision,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// Help is printed by --help.
func (versionCmd) Help() string {
	return `Prints the version, and the revision where the program was built from a repository.

Examples:

    sessionring version
    sessionring version --json`
}

// Run prints the version.
func (versionCmd) Run(_ context.Context, a *app) error {
	v := versionJSON{Version: "unknown", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		v.Version = info.Main.Version
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				v.Revision = s.Value
			case "vcs.modified":
				v.Modified = s.Value == "true"
			}
		}
	}
	if a.JSON {
		return a.emit(v)
	}
	a.printf("sessionring %s", v.Version)
	if v.Revision != "" {
		a.printf(" (%.12s", v.Revision)
		if v.Modified {
			a.printf(", modified")
		}
		a.printf(")")
	}
	a.printf(" %s %s\n", v.Go, v.Platform)
	return nil
}
