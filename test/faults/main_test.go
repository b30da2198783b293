package faults

import (
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	ServeProcess()
	os.Exit(m.Run())
}
