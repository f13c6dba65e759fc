package ledger

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/anvilfs/anvilfs/cluster"
)

// look is the longest time between two looks at what is due.
const look = time.Minute

// A Retrier tries again what could not be repaired.
type Retrier struct {
	l      *Ledger
	repair func(ctx context.Context, d cluster.Damage) error
	log    *slog.Logger
	wake   chan struct{}
}

// NewRetrier returns one; Run starts it. repair is cluster.Pool.Repair.
func NewRetrier(l *Ledger, repair func(ctx context.Context, d cluster.Damage) error, log *slog.Logger) *Retrier {
	return &Retrier{l, repair, log, make(chan struct{}, 1)}
}

// Wake makes it look at once.
func (r *Retrier) Wake() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run repairs what is due, one after the other, until ctx ends.
func (r *Retrier) Run(ctx context.Context) {
	for ctx.Err() == nil {
		list, next, err := r.l.due()
		if err != nil {
			r.log.Warn("what was found bad cannot be looked at", "err", err)
		}
		for i := range list {
			r.try(ctx, &list[i])
		}
		pause := look
		if !next.IsZero() {
			pause = min(max(next.Sub(r.l.now()), 0), look)
		}
		if len(list) > 0 {
			pause = 0 // they have new times now
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-r.wake:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

func (r *Retrier) try(ctx context.Context, e *Entry) {
	err := r.repair(ctx, e.Damage)
	if ctx.Err() != nil || errors.Is(err, cluster.ErrPoolClosed) {
		return
	}
	if err == nil {
		r.log.Info("repaired", "what", e.Damage.String(), "path", e.Path, "tries", e.Tries+1)
	}
	if err := r.l.update(&e.Damage, false, func(now *Entry) { now.tried(r.l.now(), err) }); err != nil {
		r.log.Warn("the result of a repair was not written down", "err", err)
	}
}
