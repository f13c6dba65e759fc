package hostile_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/chain/hostile"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/golden"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

const label = "HOME"

// A base is a volume that images are made from: the last member of a cluster
// of three, or a golden volume.
type base struct {
	plan   *hostile.Plan
	sound  hostile.Contents
	label  string
	others [2][]*memdev.Device // the other members; nil for golden volumes
	weight int                 // how often it is taken
}

// own are the volumes of our own making: shape, sizes of the devices.
var own = []struct {
	name, shape string
	sizes       []int64
	weight      int
}{
	{"kinds", hostile.Kinds, []int64{64 << 20}, 6},
	{"deep", hostile.Deep, []int64{64 << 20}, 2},
	{"snapshots", hostile.Snapshots, []int64{72 << 20}, 4},
	{"two-volumes", hostile.Kinds, []int64{1 << 30, 16 << 20 * 4}, 3},
	{"four-slots", hostile.Snapshots, []int64{3*ondisk.HeaderZone + ondisk.VolumeAlign}, 2},
}

// images are golden volumes and the PFS that is used of each.
var images = []struct {
	names  []string
	label  string
	weight int
}{
	{[]string{"small"}, "DATA", 2},
	{[]string{"comp-lz4"}, "DATA", 1},
	{[]string{"comp-zlib"}, "DATA", 1},
	{[]string{"check-disabled"}, "DATA", 1},
	{[]string{"check-sha192"}, "DATA", 1},
	{[]string{"links"}, "DATA", 1},
	{[]string{"pfs"}, "WORK", 1},
	{[]string{"multivol-0", "multivol-1"}, "DATA", 1},
	{[]string{"version1"}, "DATA", 1},
	{[]string{"attrs"}, "DATA", 1},
}

var (
	baseMu sync.Mutex // guards bases
	bases  = map[string]*base{}
)

// baseOf builds or returns the base of that name.
func baseOf(t testing.TB, name string) *base {
	t.Helper()
	baseMu.Lock()
	defer baseMu.Unlock()
	if b := bases[name]; b != nil {
		return b
	}
	b := &base{label: label}
	var devs []*memdev.Device
	for _, o := range own {
		if o.name == name {
			all := found(t, o.name, o.shape, o.sizes)
			b.others, devs, b.weight = [2][]*memdev.Device{all[0], all[1]}, all[2], o.weight
		}
	}
	for _, g := range images {
		if g.names[0] == name {
			for _, n := range g.names {
				devs = append(devs, golden.Device(t, n))
			}
			b.label, b.weight = g.label, g.weight
		}
	}
	if devs == nil {
		t.Fatalf("no base %q", name)
	}
	var err error
	if b.plan, err = hostile.NewPlan(name, devs...); err == nil {
		b.sound, err = b.plan.Sound(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	bases[name] = b
	return b
}

// schedule names the bases in the order in which seeds take turns.
func schedule() (list []string) {
	for _, o := range own {
		list = append(list, slices.Repeat([]string{o.name}, o.weight)...)
	}
	for _, g := range images {
		list = append(list, slices.Repeat([]string{g.names[0]}, g.weight)...)
	}
	return list
}

// found makes three members with the same content, the PFS label and one more.
func found(t testing.TB, name, shape string, sizes []int64) (members [3][]*memdev.Device) {
	t.Helper()
	ctx := context.Background()
	check := func(err error) {
		if err != nil {
			t.Fatalf("base %s: %v", name, err)
		}
	}
	var devs []*memdev.Device
	for i, size := range sizes {
		devs = append(devs, memdev.New(size).Named(fmt.Sprintf("%s-%d", name, i)))
	}
	specs := []chain.PFSSpec{
		{Label: label, Fsid: ondisk.UUID{2, 1}, Clid: ondisk.UUID{3, 1}},
		{Label: "QUIET", Fsid: ondisk.UUID{2, 2}, Clid: ondisk.UUID{3, 2}},
	}
	_, err := chain.Format(ctx, devices(devs), chain.FormatOptions{
		Labels: specs, NoLocal: true, Boot: ondisk.VolumeAlign, Aux: ondisk.VolumeAlign,
		Fsid: ondisk.UUID{4}, Now: time.Unix(1e9, 0),
	})
	check(err)
	v, err := chain.Open(ctx, devices(devs), chain.Options{})
	check(err)
	check(hostile.Populate(ctx, v, "QUIET", hostile.Kinds))
	check(hostile.Populate(ctx, v, label, shape))
	check(v.Close())
	var vols []*chain.Volume
	for m := range members {
		for _, d := range devs {
			members[m] = append(members[m], d.Clone())
		}
		v, err := chain.Open(ctx, devices(members[m]), chain.Options{})
		check(err)
		vols = append(vols, v)
	}
	roles := slices.Repeat([]ondisk.PFSType{ondisk.PFSMaster}, len(vols))
	n := byte(0)
	check(cluster.FoundWith(ctx, vols, label, roles, func() ondisk.UUID { n++; return ondisk.UUID{1, n} }))
	for _, v := range vols {
		check(v.Close())
	}
	return members
}

func devices(devs []*memdev.Device) (list []ondisk.Device) {
	for _, d := range devs {
		d.Reopen()
		list = append(list, d)
	}
	return list
}
