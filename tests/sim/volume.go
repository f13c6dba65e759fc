package sim

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/chain/fsck"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

const label = "DATA"

var bg = context.Background()

// A volume is a disk that is real but for the device: jobs are done by
// cluster.Media, as in a mount.
type volume struct {
	n       *node
	platter *platter
	session *session // nil while closed
	media   *cluster.Media
	task    *task
	parked  *snapCopy // makes way for a job
	err     error     // of the job

	unchecked bool // the power went, and what that left was not looked at
}

func (v *volume) open() (core.Durable, error) {
	seen := v.platter.lookAt()
	d, err := v.load(seen.lost)
	v.opensAt(seen, d, err)
	v.n.calmReads()
	return d, err
}

// load opens the volume and reads the state.
func (v *volume) load(lost []span) (core.Durable, error) {
	var d core.Durable
	v.session = &session{p: v.platter, name: nodeName(v.n.id), deaf: v.n.w.opt.NoOpenFlush, blab: v.n.damages(heads), lost: lost}
	v.n.mayFail(0.2)
	m, err := cluster.OpenMedia(bg, v.session.name, []ondisk.Device{v.session}, label, chain.Options{CacheBytes: 1 << 20})
	v.session.deaf = false
	if err != nil {
		v.heard()
		v.session = nil
		return d, err
	}
	v.media = m
	if v.unchecked && !v.n.spoilt && v.n.w.opt.sound() && v.n.w.chance(0.25) {
		v.fsck()
	}
	d, why, err := m.Load(bg)
	if why != "" {
		v.n.w.logf("%s: %s", v.session.name, why)
	}
	if err == nil && d.Charter != nil && d.Charter.Config.Version == 0 {
		err = errors.New("it is not of this cluster") // a header of before: a mount refuses it
	}
	if v.unchecked && err == nil {
		v.n.whole(d)
	}
	v.unchecked = false
	return d, err
}

func (v *volume) begin(j *core.Job, before core.Durable) {
	v.run(func() { v.err = v.media.Perform(j, before) })
}

// run makes fn the work of the disk; step begins it.
func (v *volume) run(fn func()) {
	v.task = newTask(fn)
	v.session.task = v.task
}

// step goes on to the next flush. done: the work has ended.
func (v *volume) step(f diskFault) (done bool, r core.Result) {
	if !v.advance(f) {
		return false, core.OK
	}
	return true, v.media.Result(v.err)
}

func (v *volume) advance(f diskFault) (done bool) {
	w, s := v.n.w, v.session
	s.stage(f, w.rng.Uint64())
	if done = v.task.run(); done {
		v.task, s.task = nil, nil
	}
	failed := s.fired > 0 && f.final()
	v.heard()
	v.lawful()
	if s.failed = s.failed || failed; f == failRead {
		s.stage(noFault, 0)
	}
	if s.after != "" {
		w.fail("I13: %s wrote %s after it had failed", s.name, s.after)
	}
	w.stats.Flushes++
	return done
}

func (v *volume) drain() {
	v.session.stage(noFault, 0)
	v.task.unwind()
	v.task, v.session.task = nil, nil
}

func (v *volume) close(power bool) {
	if s := v.session; s != nil {
		s.gone = true
		if v.task != nil {
			v.task.unwind()
			v.task = nil
		}
		if v.parked != nil {
			v.parked.task.unwind()
			v.parked = nil
		}
		v.session, v.media = nil, nil
	}
	if power {
		if v.platter.owes() {
			v.n.spoilt = true
			v.n.w.stats.Unflushed++
		}
		v.platter.cut(v.n.w.rng.Uint64())
		v.unchecked = true
	}
}

// fsck checks what is on media, from every header that a crash could select:
// I10, I11, I14.
func (v *volume) fsck() {
	rep, err := fsck.Check(bg, []ondisk.Device{v.platter.media}, fsck.Options{AllSlots: true, Workers: 1})
	v.n.w.stats.Checks++
	if err != nil {
		v.n.w.fail("I10: fsck of %s: %v", nodeName(v.n.id), err)
		return
	}
	for _, f := range rep.Findings {
		if f.Severity == fsck.Error {
			v.n.w.fail("I10/I11: fsck of %s: %v", nodeName(v.n.id), f)
			return
		}
	}
}

// level brings the intent log into the tree, if the disk has nothing else to do.
func (v *volume) level() bool {
	if v.task != nil {
		return false
	}
	err := v.media.Level(bg)
	v.heard() // what the last step staged may come now
	if err != nil {
		v.n.w.logf("%s: %v", nodeName(v.n.id), err)
	}
	return err == nil
}

// view is the committed state, nil if there is none to be had. The caller
// releases it.
func (v *volume) view() *chain.View {
	if v.media == nil || v.media.Volume().Logged() > 0 && !v.level() {
		return nil
	}
	view, err := v.media.Volume().View(bg, label)
	if err != nil {
		v.n.w.logf("%s: %v", nodeName(v.n.id), err)
		return nil
	}
	return view
}

// An image is what volumes of a cluster are like when it was founded.
type image struct {
	devs []*memdev.Device
	pos  core.Position
	law  *core.Charter
}

type shape struct {
	masters, slaves int
	small           bool
	full            int  // which rooms are left; 0 = they are large
	slots           bool // full ones have two header slots
}

var images struct {
	sync.Mutex
	made map[shape]*image
}

// founded returns a new cluster. Its ids are the same each time.
func founded(s shape) *image {
	images.Lock()
	defer images.Unlock()
	if img := images.made[s]; img != nil {
		return img
	}
	img, err := found(s)
	if err != nil {
		panic(err)
	}
	if images.made == nil {
		images.made = make(map[shape]*image)
	}
	images.made[s] = img
	return img
}

func found(s shape) (*image, error) {
	img := &image{}
	var vols []*chain.Volume
	var roles []ondisk.PFSType
	for i := range s.masters + s.slaves {
		size := int64(9 << 30) // four header slots
		if s.small {
			size = 96 << 20 // one
		}
		if s.full > 0 {
			size = 64 << 20
		}
		if s.slots {
			size = 2<<30 + 64<<20
		}
		d := memdev.New(size).Named(fmt.Sprint("n", i))
		spec := chain.PFSSpec{Label: label, Type: ondisk.PFSMaster, Fsid: fsid(i), Clid: ondisk.UUID{15: 1}}
		specs := []chain.PFSSpec{spec}
		if s.full > 0 {
			specs = append(specs, chain.PFSSpec{Label: ballast, Fsid: ondisk.UUID{13: 1, 14: byte(i)}, Clid: ondisk.UUID{13: 2, 14: byte(i)}})
		}
		_, err := chain.Format(bg, []ondisk.Device{d}, chain.FormatOptions{
			Labels: specs, NoLocal: true, Fsid: ondisk.UUID{14: byte(i), 15: 2}, Now: time.Unix(1e9, 0)})
		if err != nil {
			return nil, err
		}
		v, err := chain.Open(bg, []ondisk.Device{d}, chain.Options{})
		if err != nil {
			return nil, err
		}
		if s.full > 0 {
			if err := load(v, d, s.room(i, v.Space().Reserved)); err != nil {
				return nil, err
			}
		}
		img.devs, vols = append(img.devs, d), append(vols, v)
		role := ondisk.PFSMaster
		if i >= s.masters {
			role = ondisk.PFSSlave
			if (i-s.masters)%2 == 1 {
				role = ondisk.PFSSoftSlave
			}
		}
		roles = append(roles, role)
	}
	ids := byte(100)
	err := cluster.FoundWith(bg, vols, label, roles, func() ondisk.UUID { ids++; return ondisk.UUID{0: ids} })
	if err != nil {
		return nil, err
	}
	for i, v := range vols {
		err = errors.Join(err, v.Close())
		img.devs[i].Reopen()
	}
	if err != nil {
		return nil, err
	}
	m, err := cluster.OpenMedia(bg, "n0", []ondisk.Device{img.devs[0].Clone()}, label, chain.Options{})
	if err != nil {
		return nil, err
	}
	d, _, err := m.Load(bg)
	img.pos, img.law = d.Pos, d.Charter
	return img, errors.Join(err, m.Volume().Close())
}
