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
	Size    int64 // of each device
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
	}
}

// sizes are those of all devices.
func (s Shape) sizes() (list []int64) {
	for range s.Masters + s.Spares {
		list = append(list, s.Size)
	}
	return list
}

// need is how many devices have done all of a commit when it is acknowledged;
// spares have nothing to do.
func (s Shape) need() int { return s.Masters/2 + 1 + s.Spares }

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
	img := memdev.New(int64(len(s.sizes())) * s.Size)
	id := numbered()
	var vols []*chain.Volume
	for _, d := range crashdev.Split(img, s.sizes()...)[:s.Masters] {
		devs := []ondisk.Device{d}
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
	if err := cluster.FoundWith(ctx, vols, label, roles, id); err != nil {
		return nil, err
	}
	for _, v := range vols {
		if err := v.Close(); err != nil {
			return nil, err
		}
	}
	return img, nil
}

// specs are the members as a user would name them.
func (s Shape) specs(devs []ondisk.Device) (list []cluster.MemberSpec) {
	for i, d := range devs {
		list = append(list, cluster.MemberSpec{Name: fmt.Sprintf("m%d", i), Open: func(context.Context) ([]ondisk.Device, error) {
			return []ondisk.Device{d}, nil
		}})
	}
	return list
}

// newTap records what happens to all devices of a cluster.
func (s Shape) newTap(img *memdev.Device, seed uint64) *crashtest.Tap {
	if s.Masters+s.Spares == 1 {
		return crashtest.NewTap(img, 0, s.Size)
	}
	return crashtest.NewClusterTap(img, seed, s.sizes()...)
}

// positions are those of members.
func positions(ctx context.Context, devs []ondisk.Device) ([]cluster.Position, error) {
	var list []cluster.Position
	for _, d := range devs {
		v, err := chain.Open(ctx, []ondisk.Device{d}, chain.Options{ReadOnly: true})
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
