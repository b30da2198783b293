package sessionring

import "errors"

// leaveWord sends hints that go by themselves. Nobody waits for them: the copy that was acknowledged is safe, and a hint
// makes good its missing twin. But it must not get lost without a trace, or an owner would be trusted that missed a write:
// what is lost with its connection is sent again, and where that does not help, all that the owner holds is compared.
func (c *Client) leaveWord(at *node, owners []*node, b []byte, want int) {
	lost := func() {
		if c.conf.observer || !c.view.Load().stamped {
			return // compares nothing
		}
		for _, owner := range owners {
			owner.health.missed()
		}
	}
	o := newOp()
	o.then = func(k *call) {
		if !k.troubled() || errors.Is(k.err, ErrClosed) {
			return
		}
		again := func() {
			if at.health.now() != StateDown {
				if _, err := c.ask(c.ctx, at, c.conf.deadline, want, b); err == nil {
					return
				}
			}
			if c.ctx.Err() == nil {
				lost()
			}
		}
		select {
		case c.mend.again <- again:
		default:
			lost()
		}
	}
	at.send(&call{op: o, node: at, want: want}, b)
}
