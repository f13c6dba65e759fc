package crash

import (
	"context"
	"errors"
	"fmt"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/chain/crashtest"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/crashdev"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// part is the device that can become one more of the last member.
func (s Shape) part() int { return s.Masters }

// volume are the devices of member i: of the last one also the part, once its
// volume says that it has it.
func (s Shape) volume(devs []ondisk.Device, i int) []ondisk.Device {
	if s.Part > 0 && i == s.part()-1 && extended(devs[i]) {
		return devs[i : i+2]
	}
	return devs[i : i+1]
}

// extended reports whether a device is not all of its volume.
func extended(d ondisk.Device) bool {
	v, err := chain.Open(context.Background(), []ondisk.Device{d}, chain.Options{ReadOnly: true})
	if err == nil {
		_ = v.Close() // only read
	}
	var missing *chain.MissingVolume
	return errors.As(err, &missing)
}

// checkLast looks at the volume of the last member and the part, as a cut left
// them.
func (s Shape) checkLast(img *memdev.Device) error {
	sizes := s.sizes()
	n := len(sizes) - 2
	before := int64(0)
	for _, size := range sizes[:n] {
		before += size
	}
	return crashtest.CheckSet(crashdev.Split(img, before, sizes[n]+sizes[n+1])[1], sizes[n], sizes[n+1])
}

// stepExtend gives the last member one more device while the others go on.
func (s *session) stepExtend() error {
	s.ragged = true
	ctx, cancel := s.bounded()
	defer cancel()
	last, d := s.part()-1, s.devs[s.part()]
	name := fmt.Sprintf("m%d", last)
	// Nobody has to force it, also where a cut left something of a first try.
	grown, size, err := s.pool.NodeExtend(ctx, name, cluster.Addition{Name: "part", Open: func(context.Context) (ondisk.Device, error) { return d, nil }})
	if err != nil {
		return err
	}
	// What is behind its last whole GiB moves to the new one.
	if want := uint64(s.shape.Size/ondisk.ZoneSize*ondisk.ZoneSize + s.shape.Part); grown == 0 || size != want {
		return fmt.Errorf("%s has %d bytes, %d more, and should have %d", name, size, grown, want)
	}
	return s.mend()
}

func (s *session) part() int { return s.shape.part() }

// extendIt does so unless a cut has left it done.
func (s *session) extendIt() error {
	if s.shape.Part == 0 || extended(s.devs[s.part()-1]) {
		return nil
	}
	return s.stepExtend()
}
