package crashtest

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// split returns the devices that the first volume on them names, and the others.
func (t *Tap) split() (devs, spare []ondisk.Device) {
	devs = t.Devices()
	given, _ := devices(t.live, t.sizes())
	return devs[:len(given)], devs[len(given):]
}

func (t *Tap) sizes() (list []int64) {
	for _, d := range t.devs {
		list = append(list, d.Size())
	}
	return list
}

// stepGrow makes the volume as large as its devices, by one more if there is
// one. Its content is the same, and it is as before until it is all there. It
// stays open, or is opened as a larger one.
func (s *session) stepGrow() error {
	if s.rnd.IntN(2) == 0 {
		return s.stepGrowInPlace()
	}
	if err := s.close(); err != nil {
		return fmt.Errorf("closing: %w", err)
	}
	return s.grow()
}

// grow opens the volume, which nobody uses, as a larger one.
func (s *session) grow() error {
	return s.growth(func(add ondisk.Device) (uint64, error) {
		o, devs := s.options(), s.devs
		if o.Grow, o.Add = true, add; add != nil {
			devs = devs[:len(devs)-1]
		}
		v, err := chain.Open(s.ctx, devs, o)
		if err != nil {
			return 0, err
		}
		s.v = v
		return v.Grown(), nil
	})
}

// stepGrowInPlace grows the volume as it is: txgs in its log, space that older
// headers still reach, a view that somebody reads.
func (s *session) stepGrowInPlace() error {
	return s.growth(func(add ondisk.Device) (uint64, error) { return s.v.Grow(s.ctx, chain.Growth{Add: add}) })
}

func (s *session) growth(grow func(add ondisk.Device) (by uint64, err error)) error {
	c := commit{Moment: Moment{What: "growth", Begun: s.events()}, before: s.flushes(), state: s.now.clone()}
	var add ondisk.Device
	if len(s.spare) > 0 {
		add = s.spare[0]
		s.devs, s.spare = append(s.devs[:len(s.devs):len(s.devs)], add), s.spare[1:]
	}
	by, err := grow(add)
	if err != nil {
		return fmt.Errorf("growing: %w", err)
	}
	c.state.size = s.v.Header().Size()
	if c.state.size != s.now.size+by {
		return fmt.Errorf("grown by %d bytes, from %d to %d", by, s.now.size, c.state.size)
	}
	c.Acked, c.upto, c.Digest = s.events(), s.flushes(), c.state.digest()
	s.now = c.state
	s.commits = append(s.commits, c)
	return nil
}

// stepGrowInUse is growth in the middle of use: space was dropped that older
// headers reach, a view is held, and txgs are in the log.
func (s *session) stepGrowInUse() error {
	for _, step := range []func() error{s.stepRewrite, s.stepHold, s.stepRewrite, s.stepLog, s.stepLog, s.stepGrowInPlace, s.stepLog, s.stepRewrite} {
		if err := step(); err != nil {
			return err
		}
	}
	return s.stepFiles()
}

func (s *session) stepGrowAndUse() error {
	if err := s.stepGrow(); err != nil {
		return err
	}
	return s.stepFiles()
}

// growAgain does what a cut kept from being done.
func (s *session) growAgain() error {
	if err := s.stepGrowAndUse(); err != nil {
		return err
	}
	return s.verify()
}

// addable demands of a device that was being added that nobody has to force that
// it is added again: it is empty, or known by what was left on it.
func addable(img *memdev.Device, sizes []int64, d ondisk.Device) error {
	look := make([]byte, 1<<20)
	if _, err := d.ReadAt(look, 0); err != nil {
		return err
	}
	if h := headers(img, sizes[0])[0]; !chain.LeftOver(h, d) && len(bytes.Trim(look, "\x00")) > 0 {
		return errors.New("the device that was being added is not known as such")
	}
	return nil
}
