package rig

import (
	"context"
	"errors"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// AddDevice gives the member one more device, of size bytes. It is a part of its
// volume once somebody makes it one.
func (m *Member) AddDevice(size int64) {
	m.More = &Member{Name: m.Name + "2", w: m.w}
	m.More.put(memdev.New(size))
}

// devices are those that the member's volume has, as an operator names them.
func (m *Member) devices() []*Member {
	if m.More != nil && m.Extended() {
		return []*Member{m, m.More}
	}
	return []*Member{m}
}

// Extended reports whether the device of the member is not all of its volume.
func (m *Member) Extended() bool { return chain.Lacks([]ondisk.Device{m.Copy()}) }

// Copies is Copy of all devices of the member's volume.
func (m *Member) Copies() (devs []ondisk.Device) {
	for _, d := range m.devices() {
		devs = append(devs, d.Copy())
	}
	return devs
}

// Spec is how a pool opens the member.
func (m *Member) Spec() cluster.MemberSpec {
	list := m.devices()
	name := m.Name
	for _, d := range list[1:] {
		name += ":" + d.Name
	}
	return cluster.MemberSpec{Name: name, Open: func(ctx context.Context) ([]ondisk.Device, error) {
		var devs []ondisk.Device
		for _, d := range list {
			g, err := d.Open(ctx)
			if err != nil {
				for _, d := range devs {
					err = errors.Join(err, d.Close())
				}
				return nil, err
			}
			devs = append(devs, g)
		}
		return devs, nil
	}}
}

// Open opens this device of the member's alone.
func (m *Member) Open(context.Context) (ondisk.Device, error) {
	g, err := m.open()
	if err != nil {
		return nil, err
	}
	return g, nil
}
