package main

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestOnceFree: who looks at a mount for a moment does not keep it from being
// unmounted, and who stays does.
func TestOnceFree(t *testing.T) {
	for _, c := range []struct {
		busy time.Duration // in use for so long
		err  error         // and then
		want error
	}{
		{0, nil, nil},
		{400 * time.Millisecond, nil, nil},
		{400 * time.Millisecond, syscall.EIO, syscall.EIO},
		{time.Hour, nil, syscall.EBUSY},
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			err := onceFree(t.Context(), func() error {
				if time.Since(began) < c.busy {
					return syscall.EBUSY
				}
				return c.err
			})
			if !errors.Is(err, c.want) || c.want == nil && err != nil {
				t.Errorf("in use for %v: %v, want %v", c.busy, err, c.want)
			}
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("in use for %v: it took %v", c.busy, took)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := onceFree(ctx, func() error { return syscall.EBUSY }); !errors.Is(err, syscall.EBUSY) {
		t.Errorf("given up: %v", err)
	}
}
