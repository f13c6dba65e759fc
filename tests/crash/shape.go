package crash

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/chain/crashtest"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/crashdev"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

const label = "HOME"

// A Shape is a cluster that workloads start from.
type Shape struct {
	Name    string
	Masters int
	Spares  int   // empty devices behind those of the members
	Cached  bool  // with a device behind those that is a cache
	Size    int64 // of each volume
	Room    int64 // that each device is larger
	Memory  int64 // of a pool with a cache
	Dedup   bool  // equals are looked for as blocks are written
	Plain   bool  // of one copy, and no cluster
	Part    int64 // of a device behind that can become one more of the last member; 0 = there is none
}

// Shapes lists the clusters that are tried: how many decide, and how many
// headers a volume has.
func Shapes() []Shape {
	const four, one = 3*ondisk.HeaderZone + ondisk.VolumeAlign, 96 << 20
	return []Shape{
		{Name: "alone", Masters: 1, Size: one},
		{Name: "alone-four-slots", Masters: 1, Size: four},
		{Name: "three", Masters: 3, Size: one},
		{Name: "three-and-spare", Masters: 3, Spares: 1, Size: one},
		{Name: "three-four-slots", Masters: 3, Size: four},
		{Name: "three-growing", Masters: 3, Size: one, Room: 40 << 20},
		{Name: "three-growing-slots", Masters: 3, Size: one, Room: four - one},
		{Name: "three-and-a-part", Masters: 3, Size: ondisk.ZoneSize + 64<<20, Part: 200 << 20},
		{Name: "three-cached", Masters: 3, Cached: true, Memory: 1 << 20, Size: one},
		{Name: "alone-sharing", Masters: 1, Size: one, Dedup: true},
		{Name: "alone-growing", Masters: 1, Size: one, Room: 40 << 20},
		{Name: "two-growing", Masters: 2, Size: one, Room: 40 << 20},
		{Name: "plain", Masters: 1, Plain: true, Size: one},
	}
}

// sizes are those of all devices.
func (s Shape) sizes() (list []int64) {
	for range s.Masters + s.Spares {
		list = append(list, s.Size+s.Room)
	}
	if s.Cached {
		list = append(list, s.Size)
	}
	if s.Part > 0 {
		list = append(list, s.Part)
	}
	return list
}

// caches is how many devices are caches.
func (s Shape) caches() int {
	if s.Cached {
		return 1
	}
	return 0
}

// cache is the device of the cache.
func (s Shape) cache() int { return s.Masters + s.Spares }

// shorter is the beginning of a device.
type shorter struct {
	ondisk.Device
	size int64
}

func (d shorter) Size() int64 { return d.size }

func (d shorter) Measure() (int64, error) { return d.size, nil }

// need is how many devices have done all of a commit when it is acknowledged;
// spares have nothing to do, and nobody waits for a cache.
func (s Shape) need() int {
	n := s.Masters/2 + 1 + s.Spares
	if s.Cached {
		n++
	}
	return n
}

// numbered makes ids that are the same in every run.
func numbered() func() ondisk.UUID {
	n := uint64(0)
	return func() (u ondisk.UUID) {
		n++
		u[0] = 0xC0
		binary.BigEndian.PutUint64(u[8:], n)
		return u
	}
}

// build formats the members and makes them one cluster.
func (s Shape) build(ctx context.Context) (*memdev.Device, error) {
	roles := make([]ondisk.PFSType, s.Masters)
	for i := range roles {
		roles[i] = ondisk.PFSMaster
	}
	return s.buildRoles(ctx, roles)
}

// buildRoles is build with members that need not be masters.
func (s Shape) buildRoles(ctx context.Context, roles []ondisk.PFSType) (*memdev.Device, error) {
	size := int64(0)
	for _, n := range s.sizes() {
		size += n
	}
	img := memdev.New(size)
	id := numbered()
	var vols []*chain.Volume
	parts := crashdev.Split(img, s.sizes()...)
	for _, d := range parts[:s.Masters] {
		devs := []ondisk.Device{shorter{d, s.Size}}
		_, err := chain.Format(ctx, devs, chain.FormatOptions{
			Labels:  []chain.PFSSpec{{Label: label, Type: ondisk.PFSMaster, Fsid: id(), Clid: id()}},
			NoLocal: true, Boot: ondisk.VolumeAlign, Aux: ondisk.VolumeAlign, Fsid: id(), Now: time.Unix(1e9, 0),
		})
		if err != nil {
			return nil, err
		}
		v, err := chain.Open(ctx, devs, chain.Options{})
		if err != nil {
			return nil, err
		}
		vols = append(vols, v)
	}
	if !s.Plain {
		if err := cluster.FoundWith(ctx, vols, label, roles, id); err != nil {
			return nil, err
		}
	}
	for _, v := range vols {
		if err := v.Close(); err != nil {
			return nil, err
		}
	}
	if s.Cached {
		return img, makeCache(ctx, parts[0], parts[s.cache()])
	}
	return img, nil
}

// makeCache makes a device a cache of the cluster that a member is of.
func makeCache(ctx context.Context, member, dev ondisk.Device) error {
	v, err := chain.Open(ctx, []ondisk.Device{member}, chain.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	infos, err := v.PFSs(ctx)
	for i := range infos {
		if infos[i].Label == label {
			_, ferr := cluster.FormatCache(ctx, []ondisk.Device{dev}, label, infos[i].Clid, time.Unix(1e9, 0))
			err = errors.Join(err, ferr)
		}
	}
	return errors.Join(err, v.Close())
}

// specs are the members, and the cache, as a user would name them.
func (s Shape) specs(devs []ondisk.Device) (list []cluster.MemberSpec) {
	for i, d := range devs {
		if s.Part > 0 && i == s.part() {
			continue
		}
		volume := s.volume(devs, i) // as it is now: what is added later is opened by who adds it
		list = append(list, cluster.MemberSpec{Name: fmt.Sprintf("m%d", i), Cache: s.Cached && i == s.cache(), Open: func(context.Context) ([]ondisk.Device, error) {
			if g, ok := d.(interface{ opened() ondisk.Device }); ok {
				return []ondisk.Device{g.opened()}, nil
			}
			return volume, nil
		}})
	}
	return list
}

// newTap records what happens to all devices of a cluster.
func (s Shape) newTap(img *memdev.Device, seed uint64) *crashtest.Tap {
	if sizes := s.sizes(); len(sizes) == 1 {
		return crashtest.NewTap(img, 0, sizes...)
	}
	t := crashtest.NewClusterTap(img, seed, s.sizes()...)
	if s.Part > 0 {
		return t.Join()
	}
	return t
}

// positions are those of members.
func positions(ctx context.Context, volumes [][]ondisk.Device) ([]cluster.Position, error) {
	var list []cluster.Position
	for _, devs := range volumes {
		v, err := chain.Open(ctx, devs, chain.Options{ReadOnly: true})
		if err != nil {
			return nil, err
		}
		infos, err := v.PFSs(ctx)
		for i := range infos {
			if e, ok := v.State(infos[i].Fsid); ok && infos[i].Label == label {
				list = append(list, cluster.Position{T: e.T, H: e.H})
			}
		}
		if err := errors.Join(err, v.Close()); err != nil {
			return nil, err
		}
	}
	return list, nil
}
