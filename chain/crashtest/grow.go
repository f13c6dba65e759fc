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
// one. Its content is the same, and it is as before until it is all there.
func (s *session) stepGrow() error {
	if err := s.close(); err != nil {
		return fmt.Errorf("closing: %w", err)
	}
	return s.grow()
}

// grow opens the volume, which nobody uses, as a larger one.
func (s *session) grow() error {
	c := commit{Moment: Moment{What: "growth", Begun: s.events()}, before: s.flushes(), state: s.now.clone()}
	o := s.options()
	if o.Grow = true; len(s.spare) > 0 {
		o.Add = s.spare[0]
		s.devs, s.spare = append(s.devs[:len(s.devs):len(s.devs)], o.Add), s.spare[1:]
	}
	old := s.devs
	if o.Add != nil {
		old = old[:len(old)-1]
	}
	v, err := chain.Open(s.ctx, old, o)
	if err != nil {
		return fmt.Errorf("growing: %w", err)
	}
	s.v = v
	c.state.size = v.Header().Size()
	if c.state.size != s.now.size+v.Grown() {
		return fmt.Errorf("grown by %d bytes, from %d to %d", v.Grown(), s.now.size, c.state.size)
	}
	c.Acked, c.upto, c.Digest = s.events(), s.flushes(), c.state.digest()
	s.now = c.state
	s.commits = append(s.commits, c)
	return nil
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
