package contract

import (
	"testing"

	"github.com/sessionring/sessionring/sessiontest"
)

// The Client itself keeps the contract, with no framework in between.
func TestClient(t *testing.T) {
	n := ForTest(t, 3)
	c := n.Open(t, "copies=2")
	sessiontest.Run(t, n.Complete(Store(c), c))
}
