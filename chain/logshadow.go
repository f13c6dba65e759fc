package chain

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/anvilfs/anvilfs/ondisk"
)

// withLog is v as it will be once its intent log is in the tree, if anything
// is in the log. v is open for reading, so that is done in memory.
func (v *Volume) withLog(ctx context.Context) *Volume {
	found, err := v.findLog(ctx)
	if len(found) == 0 && err == nil {
		return v
	}
	devs, shadows := shadowed(v.geo.Load().devs)
	o := v.opts
	o.ReadOnly, o.Grow, o.Add = false, false, nil
	w, err := Open(ctx, devs, o)
	if err != nil {
		v.log.Warn("what the intent log holds cannot be shown", "device", v.Name(), "txgs", len(found), "err", err)
		return v
	}
	for _, s := range shadows {
		s.owner.Store(true)
	}
	w.opts.ReadOnly = true
	return w
}

// Replayed is devs as they will read once the intent log is in the tree, which
// is done in memory: nothing is written to them, and they are not closed. The
// error says what of the log could not be applied; what was logged before is
// there. A freemap that is damaged is no hindrance.
func Replayed(ctx context.Context, devs []ondisk.Device) ([]ondisk.Device, error) {
	var err error
	for _, doubt := range []bool{false, true} {
		seen, _ := shadowed(devs)
		var v *Volume
		if v, err = Open(ctx, seen, Options{DropLog: true, DoubtFreemap: doubt}); err == nil {
			// It stays open: to close it would commit what nobody looks at.
			return seen, v.GaveUp()
		}
	}
	return devs, err
}

// shadowed is a shadow of each device.
func shadowed(devs []ondisk.Device) (as []ondisk.Device, shadows []*shadow) {
	for _, d := range devs {
		s := &shadow{Device: d, pages: make(map[int64][]byte)}
		as, shadows = append(as, s), append(shadows, s)
	}
	return as, shadows
}

// A shadow keeps in memory what is written to a device.
type shadow struct {
	ondisk.Device
	owner atomic.Bool // Close closes the device, too

	mu    sync.RWMutex
	pages map[int64][]byte // by number; immutable
}

// ReadAt implements ondisk.Device.
func (s *shadow) ReadAt(p []byte, off int64) (int, error) {
	n, err := s.Device.ReadAt(p, off)
	s.mu.RLock()
	defer s.mu.RUnlock()
	for at := off &^ (pageLen - 1); at < off+int64(n) && len(s.pages) > 0; at += pageLen {
		page := s.pages[at/pageLen]
		switch {
		case page == nil:
		case at < off:
			copy(p[:n], page[off-at:])
		default:
			copy(p[at-off:n], page)
		}
	}
	return n, err
}

// WriteAt implements ondisk.Device.
func (s *shadow) WriteAt(p []byte, off int64) (int, error) {
	beg, end := off&^(pageLen-1), (off+int64(len(p))+pageLen-1)&^(pageLen-1)
	whole := make([]byte, min(end, s.Size())-beg)
	if n, err := s.ReadAt(whole, beg); n < len(whole) {
		return 0, orShort(err)
	}
	copy(whole[off-beg:], p)
	s.mu.Lock()
	defer s.mu.Unlock()
	for at := int64(0); at < int64(len(whole)); at += pageLen {
		s.pages[(beg+at)/pageLen] = whole[at:min(at+pageLen, int64(len(whole)))]
	}
	return len(p), nil
}

// Flush implements ondisk.Device: there is nothing to lose.
func (s *shadow) Flush() error { return nil }

// Discard implements ondisk.Device: nothing is given up.
func (s *shadow) Discard(off, n int64) error { return nil }

// Close implements ondisk.Device.
func (s *shadow) Close() error {
	if !s.owner.Load() {
		return nil
	}
	return s.Device.Close()
}
