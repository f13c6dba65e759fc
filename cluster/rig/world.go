package rig

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/crashdev"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// Label is the PFS of every member.
const Label = "HOME"

// sleep serves delay rules; inside a bubble of testing/synctest it costs no
// time.
func sleep(d time.Duration) { <-time.After(d) }

// A World is the devices of one cluster, which outlive the pools on them.
type World struct {
	Members []*Member
	Fast    *Member // a cache before them; nil: there is none

	life atomic.Int64         // counts processes
	dead atomic.Pointer[fate] // set while the process is dead

	mu sync.Mutex // orders deaths
}

// A fate is how a process died: what each device had got by then.
type fate struct {
	power  bool
	events []int
	recs   []*crashdev.Device
	mems   []*memdev.Device // of a process that was killed
}

// New makes a cluster of empty members on devices of size bytes.
func New(ctx context.Context, masters, slaves int, size int64) (*World, error) {
	var roles []ondisk.PFSType
	for i := range masters + slaves {
		role := ondisk.PFSMaster
		if i >= masters {
			role = ondisk.PFSSlave
		}
		roles = append(roles, role)
	}
	return NewRoles(ctx, roles, size)
}

// NewRoles is New with a member of each role.
func NewRoles(ctx context.Context, roles []ondisk.PFSType, size int64) (*World, error) {
	w := &World{}
	var vols []*chain.Volume
	for i, role := range roles {
		dev := memdev.New(size)
		_, err := chain.Format(ctx, []ondisk.Device{dev}, chain.FormatOptions{Labels: []chain.PFSSpec{{Label: Label, Type: ondisk.PFSMaster}}})
		if err != nil {
			return nil, err
		}
		v, err := chain.Open(ctx, []ondisk.Device{dev}, chain.Options{})
		if err != nil {
			return nil, err
		}
		vols = append(vols, v)
		w.Members = append(w.Members, &Member{Name: Name(i), Master: role == ondisk.PFSMaster, w: w, mem: dev})
	}
	err := cluster.Found(ctx, vols, Label, roles)
	for _, v := range vols {
		err = errors.Join(err, v.Close())
	}
	for _, m := range w.Members {
		m.put(m.mem)
	}
	return w, err
}

// Name is how member i is called.
func Name(i int) string { return string(rune('a'+i)) + ".img" }

// Clone is another world with the same on its devices. Both may be used.
func (w *World) Clone() *World {
	c := &World{}
	for _, m := range w.Members {
		c.Members = append(c.Members, m.clone(c))
	}
	if w.Fast != nil {
		c.Fast = w.Fast.clone(c)
	}
	return c
}

func (m *Member) clone(w *World) *Member {
	n := &Member{Name: m.Name, Master: m.Master, w: w}
	n.put(m.Copy())
	if m.More != nil {
		n.More = m.More.clone(w)
	}
	return n
}

// All are the devices: those of the members, and the cache if there is one.
func (w *World) All() (all []*Member) {
	for _, m := range w.Members {
		if all = append(all, m); m.More != nil {
			all = append(all, m.More)
		}
	}
	if w.Fast != nil {
		all = append(all, w.Fast)
	}
	return all
}

// AddCache puts an empty cache of size bytes before the members.
func (w *World) AddCache(ctx context.Context, size int64) error {
	v, err := chain.Open(ctx, []ondisk.Device{w.Members[0].Copy()}, chain.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	infos, err := v.PFSs(ctx)
	dev := memdev.New(size)
	for i := range infos {
		if infos[i].Label == Label {
			_, ferr := cluster.FormatCache(ctx, []ondisk.Device{dev}, Label, infos[i].Clid, time.Now())
			err = errors.Join(err, ferr)
		}
	}
	w.Fast = &Member{Name: "fast", w: w}
	w.Fast.put(dev)
	return errors.Join(err, v.Close())
}

// Specs are all members, and the cache, as a pool opens them.
func (w *World) Specs() []cluster.MemberSpec {
	var specs []cluster.MemberSpec
	for _, m := range w.Members {
		specs = append(specs, m.Spec())
	}
	if w.Fast != nil {
		spec := w.Fast.Spec()
		spec.Cache = true
		specs = append(specs, spec)
	}
	return specs
}

// Die kills the process that uses the members; with power, the machine loses
// power too, and with it what was not flushed.
func (w *World) Die(power bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dead.Load() != nil {
		return
	}
	// From here on no request reports success: what did so before is counted.
	f := &fate{power: power}
	w.dead.Store(f)
	for _, m := range w.All() {
		m.mu.Lock()
		f.recs = append(f.recs, m.rec)
		f.events = append(f.events, m.rec.Events())
		f.mems = append(f.mems, m.mem.Clone())
		m.mu.Unlock()
	}
}

// Dead reports whether the process is dead.
func (w *World) Dead() bool { return w.dead.Load() != nil }

// Restart gives the devices as the death left them to the next process. What
// was in a cache when the power went is kept, lost or torn by rng. All
// requests of the dead process must have returned.
func (w *World) Restart(rng *rand.Rand) error {
	f := w.dead.Load()
	if f == nil {
		return errors.New("nobody died")
	}
	for i, m := range w.All() {
		img := f.mems[i]
		if f.power {
			keep := keeper(rng)
			if m.lies { // in the order in which they came: what else it may do nobody can tell
				last := rng.IntN(f.events[i] + 1)
				keep = func(event, sector int) bool { return event < last }
			}
			img = f.recs[i].Image(f.events[i], keep)
		}
		m.mu.Lock()
		held := m.holder != nil
		m.mu.Unlock()
		if held {
			return fmt.Errorf("%s was not closed by the dead process", m.Name)
		}
		m.put(img)
	}
	w.life.Add(1)
	w.dead.Store(nil)
	return nil
}

// keeper says which sectors of unflushed writes reach the media: none, all,
// or each as the dice fall.
func keeper(rng *rand.Rand) func(event, sector int) bool {
	kind, seed := rng.IntN(4), rng.Uint64()
	return func(event, sector int) bool {
		switch kind {
		case 0:
			return false
		case 1:
			return true
		case 2: // whole writes
			return rand.New(rand.NewPCG(seed, uint64(event))).Uint64()&1 == 0
		}
		return rand.New(rand.NewPCG(seed^uint64(sector), uint64(event))).Uint64()&1 == 0
	}
}

// Held names a member that a process has open; "" = none.
func (w *World) Held() string {
	for _, m := range w.All() {
		m.mu.Lock()
		held := m.holder != nil
		m.mu.Unlock()
		if held {
			return m.Name
		}
	}
	return ""
}
