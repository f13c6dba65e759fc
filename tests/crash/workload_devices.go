package crash

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
)

// stepGrow makes a member as large as its device while the others go on.
func stepGrow(i int) func(s *session) error {
	return func(s *session) error {
		s.ragged = true
		if err := s.grow(i); err != nil {
			return err
		}
		return s.mend()
	}
}

func (s *session) grow(i int) error {
	ctx, cancel := s.bounded()
	defer cancel()
	name := fmt.Sprintf("m%d", i)
	_, size, err := s.pool.NodeGrow(ctx, name)
	if want := uint64(s.devs[i].Size()) / ondisk.VolumeAlign * ondisk.VolumeAlign; err == nil && size != want {
		err = fmt.Errorf("%s has %d bytes, its device %d", name, size, want)
	}
	return err
}

// growAll makes all members as large as their devices, whatever a cut left of
// that.
func (s *session) growAll() error {
	if s.shape.Room == 0 {
		return nil
	}
	for i := range s.shape.Masters {
		if err := stepGrow(i)(s); err != nil {
			return err
		}
	}
	return nil
}

// stepConvert makes a filesystem of one copy a cluster.
func (s *session) stepConvert() error {
	if err := s.close(); err != nil {
		return err
	}
	v, err := chain.Open(s.ctx, s.shape.volume(s.devs, 0), chain.Options{})
	if err != nil {
		return err
	}
	_, err = cluster.Convert(s.ctx, v, label)
	if err = errors.Join(err, v.Close()); err != nil {
		return err
	}
	return s.mountAny()
}

// stepReread reads all there is after a mount, when it is not in memory: it is
// offered to the cache, and comes from there the second time.
func (s *session) stepReread() error {
	if err := s.stepReopen(); err != nil {
		return err
	}
	for range 2 {
		if _, err := s.dump(); err != nil {
			return err
		}
	}
	return s.filled()
}

// filled waits until the cache has taken what it was offered.
func (s *session) filled() error {
	ctx, cancel := s.bounded()
	defer cancel()
	for {
		list := s.pool.Status().Caches
		if len(list) == 1 && list[0].Blocks > 0 {
			return nil
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("the cache has nothing of what was read: %+v", list)
		}
	}
}

// stepKnows demands that the cache knows after a mount what it was filled with.
func (s *session) stepKnows() error {
	list := s.pool.Status().Caches
	if len(list) != 1 || list[0].Blocks == 0 {
		return fmt.Errorf("the cache has nothing: %+v", list)
	}
	return nil
}

// stepCacheAway takes the cache away, and brings it back with what it has.
func (s *session) stepCacheAway() error {
	ctx, cancel := s.bounded()
	defer cancel()
	name := fmt.Sprintf("m%d", s.shape.cache())
	if err := s.pool.NodeOffline(ctx, name); err != nil {
		return err
	}
	if err := s.pool.NodeOnline(ctx, name); err != nil {
		return err
	}
	return s.warm(ctx)
}

// warm waits until the cache answers with what an earlier mount left in it, if
// there is one. Its volume is sound whatever was cut.
func (s *session) warm(ctx context.Context) error {
	for {
		list := s.pool.Status().Caches
		switch {
		case len(list) == 0 || list[0].State == cluster.CacheOn && list[0].Warm:
			return nil
		case list[0].State != cluster.CacheOn && list[0].State != cluster.CacheOpening:
			return fmt.Errorf("the cache is %s: %s", list[0].State, list[0].Error)
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("the cache is %s: %w", list[0].State, ctx.Err())
		}
	}
}
