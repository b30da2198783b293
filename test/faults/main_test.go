package faults

import (
	"flag"
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	ServeProcess()
	// The tests wait more than they work. The command line may still say otherwise.
	if err := flag.Set("test.parallel", "3"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}
