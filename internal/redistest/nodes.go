package redistest

import (
	"context"
	"errors"
	"sync"
)

// StartNodes starts n servers at a time, all or none. The i-th takes the i-th
// options; the last given serve for the rest.
func StartNodes(ctx context.Context, n int, opts ...Options) ([]*Server, error) {
	servers := make([]*Server, n)
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		var o Options
		if len(opts) > 0 {
			o = opts[min(i, len(opts)-1)]
		}
		wg.Go(func() { servers[i], errs[i] = Start(ctx, o) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		StopNodes(servers)
		return nil, err
	}
	return servers, nil
}

// StopNodes stops servers; nil ones are passed over.
func StopNodes(servers []*Server) error {
	var errs []error
	for _, s := range servers {
		if s != nil {
			errs = append(errs, s.Stop())
		}
	}
	return errors.Join(errs...)
}
