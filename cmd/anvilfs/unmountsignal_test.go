package main

import (
	"context"
	"log/slog"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestEndingInUse: what is written to a mount that a signal meets in use is
// brought to the media soon, and again. Whether that works is no matter.
func TestEndingInUse(t *testing.T) {
	for name, settle := range map[string]func(context.Context) error{
		"works": func(context.Context) error { return nil },
		"fails": func(context.Context) error { return syscall.EIO },
		"hangs": func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began, settled, detached := time.Now(), 0, time.Duration(0)
				e := ending{
					detach: func(lazy bool) error {
						if lazy {
							t.Error("detached from its users")
						}
						if time.Since(began) < 4*time.Second {
							return syscall.EBUSY
						}
						detached = time.Since(began)
						return nil
					},
					settle: func(ctx context.Context) error {
						settled++
						if settled == 1 && time.Since(began) > 0 {
							t.Errorf("first after %v", time.Since(began))
						}
						return settle(ctx)
					},
					log: slog.New(slog.DiscardHandler),
				}
				e.whenFree(t.Context(), nil)
				if detached == 0 || detached > 5*time.Second {
					t.Errorf("unmounted after %v", detached)
				}
				if want := 8; name != "hangs" && settled < want || settled < 1 {
					t.Errorf("settled %d times, want %d", settled, want)
				}
			})
		})
	}
}

// TestEndingAgain: the next signal detaches the mount from its users, and what they
// still write is brought to the media like before.
func TestEndingAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, end := context.WithCancel(t.Context())
		again, began := make(chan os.Signal, 1), time.Now()
		var detached, settled time.Duration
		e := ending{
			detach: func(lazy bool) error {
				switch {
				case detached > 0:
					t.Error("detached already")
				case lazy:
					detached = time.Since(began)
					return nil
				}
				return syscall.EBUSY
			},
			settle: func(context.Context) error { settled = time.Since(began); return nil },
			log:    slog.New(slog.DiscardHandler),
		}
		go func() {
			<-time.After(time.Minute)
			again <- syscall.SIGTERM
			select {
			case <-time.After(time.Minute):
				end()
			case <-ctx.Done():
			}
		}()
		e.whenFree(ctx, again)
		end()
		if took := time.Since(began); detached != time.Minute || took != 2*time.Minute {
			t.Errorf("detached after %v, ended after %v", detached, took)
		}
		if settled < 2*time.Minute-time.Second {
			t.Errorf("what was written later than %v is in memory only", settled)
		}
	})
}

// TestEndingFree: a mount that nobody uses is unmounted at once.
func TestEndingFree(t *testing.T) {
	e := ending{detach: func(lazy bool) error { return nil }, log: slog.New(slog.DiscardHandler)}
	e.whenFree(t.Context(), nil)
}
