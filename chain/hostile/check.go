package hostile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime/debug"
	"slices"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/chain/fsck"
	"github.com/anvilfs/anvilfs/chain/show"
)

// maxOutput bounds what may be printed about an image.
const maxOutput = 64 << 20

// A Result counts what an image went through.
type Result struct {
	Opened  bool // for reading
	Read    int  // PFSs read as a whole
	Commits int  // that worked
	Noticed bool // fsck found errors or warnings
	Reads   int64
}

// Sound is what a plan's volume holds.
func (p *Plan) Sound(ctx context.Context) (Contents, error) {
	im := &Image{p: p, devs: p.devs}
	v, err := chain.Open(ctx, im.Watch().Devices(), chain.Options{ReadOnly: true, CacheBytes: 1 << 20})
	if err != nil {
		return nil, err
	}
	defer v.Close()
	return ReadAll(ctx, v)
}

// Check puts an image to everything that chain and its neighbours do with a
// volume. sound is what was on it before. A panic becomes an error.
func (im *Image) Check(ctx context.Context, sound Contents) (r Result, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	steps := []struct {
		name string
		do   func(context.Context, Contents, *Result) error
	}{{"read", im.checkRead}, {"fsck", im.checkFsck}, {"show", im.checkShow}, {"salvage", im.checkSalvage}, {"write", im.checkWrite}}
	for _, s := range steps {
		if err := s.do(ctx, sound, &r); err != nil {
			return r, fmt.Errorf("%s: %w", s.name, err)
		}
		if err := ctx.Err(); err != nil {
			return r, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return r, nil
}

func (im *Image) checkRead(ctx context.Context, sound Contents, r *Result) error {
	ws := im.Watch()
	v, err := chain.Open(ctx, ws.Devices(), chain.Options{ReadOnly: true, CacheBytes: 1 << 20})
	if err != nil {
		return ws.Misuse() // refused
	}
	r.Opened = true
	got, err := ReadAll(ctx, v)
	err = errors.Join(err, v.Close(), ws.Misuse())
	if err != nil {
		return err
	}
	r.Read, r.Reads = len(got), ws[0].Reads()
	return im.compare(sound, got)
}

// compare looks whether PFSs that nothing was done to are what they were.
func (im *Image) compare(sound, got Contents) error {
	for _, label := range im.Whole() {
		if have, ok := got[label]; !im.above && (!ok || have != sound[label]) {
			return fmt.Errorf("PFS %q, which nothing was done to: readable %v, and changed", label, ok)
		}
	}
	return nil
}

func (im *Image) checkFsck(ctx context.Context, _ Contents, r *Result) error {
	ws := im.Watch()
	rep, err := fsck.Check(ctx, ws.Devices(), fsck.Options{AllSlots: true, Workers: 2, MaxFindings: 50})
	if werr := ws.Misuse(); werr != nil {
		return werr
	}
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		return nil // there is no volume to check
	}
	r.Noticed = !rep.Clean()
	for _, f := range rep.Findings {
		_ = f.String()
	}
	if im.Flagrant && !im.above && rep.Clean() { // else an older header may be in use
		return errors.New("calls it clean")
	}
	return nil
}

// A bounded writer fails when too much is written.
type bounded struct{ left int }

func (b *bounded) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		return 0, fmt.Errorf("more than %d bytes of output: %w", maxOutput, ErrEndless)
	}
	return len(p), nil
}

func (im *Image) checkShow(ctx context.Context, _ Contents, _ *Result) error {
	rnd := rand.New(rand.NewPCG(im.Seed, 5))
	label := im.p.pfs[rnd.IntN(len(im.p.pfs))]
	site := &im.p.sites[rnd.IntN(len(im.p.sites))]
	ws := im.Watch()
	w := &bounded{maxOutput}
	calls := []func() error{
		func() error { return show.Volume(ctx, w, ws.Devices()) },
		func() error { return show.PFSs(ctx, w, ws.Devices()) },
		func() error {
			return show.Freemap(ctx, w, ws.Devices(), show.FreemapOptions{Zone: show.AllZones, Segments: true})
		},
		func() error { return show.Chain(ctx, w, ws.Devices(), "", 0) },
		func() error { return show.Find(ctx, w, ws.Devices(), site.ref.Off()) },
		func() error { return show.Inode(ctx, w, ws.Devices(), label, fmt.Sprint(site.ref.Key&(1<<62-1))) },
		func() error { return show.Inode(ctx, w, ws.Devices(), label, "/dir/sub/f1") },
		func() error { return show.Inode(ctx, w, ws.Devices(), label, "1") },
	}
	for _, call := range calls {
		if err := call(); errors.Is(err, ErrEndless) {
			return err
		}
		if err := errors.Join(ws.Misuse(), ctx.Err()); err != nil {
			return err
		}
		ws = ws.Again()
	}
	return nil
}

// checkWrite changes the PFSs that something was done to, and what is left of
// the others must not notice.
func (im *Image) checkWrite(ctx context.Context, _ Contents, r *Result) error {
	ws := im.Watch()
	v, err := chain.Open(ctx, ws.Devices(), chain.Options{CacheBytes: 1 << 20})
	if err != nil {
		return ws.Misuse()
	}
	src := rand.NewPCG(im.Seed, 3)
	w := &writer{ctx: ctx, v: v, src: src, rnd: rand.New(src)}
	before, err := ReadAll(ctx, v)
	labels := im.victims()
	for _, label := range labels {
		if err == nil {
			err = w.change(label)
		}
	}
	if err == nil {
		err = w.space(labels[0])
	}
	if err == nil {
		err = v.Failed()
	}
	if err = errors.Join(err, v.Close(), ws.Misuse()); err != nil {
		return err
	}
	r.Commits = w.commits
	ws = ws.Again()
	if v, err = chain.Open(ctx, ws.Devices(), chain.Options{ReadOnly: true, CacheBytes: 1 << 20}); err != nil {
		if w.commits == 0 {
			return ws.Misuse()
		}
		return fmt.Errorf("opening again: %w", err)
	}
	defer v.Close()
	if im.Ours && im.Trusted {
		return nil // what we vouched for was a lie
	}
	after, err := ReadAll(ctx, v)
	if err = errors.Join(err, ws.Misuse()); err != nil {
		return fmt.Errorf("reading again: %w", err)
	}
	for label, sum := range before {
		if now, ok := after[label]; !slices.Contains(labels, label) && (!ok || now != sum) {
			return fmt.Errorf("PFS %q was whole, and is not after changes of others: readable %v", label, ok)
		}
	}
	return w.kept(v)
}

// victims are the PFSs to be changed: what was harmed, three at most, one at
// least.
func (im *Image) victims() (labels []string) {
	whole := im.Whole()
	for _, label := range im.p.pfs {
		if !slices.Contains(whole, label) && len(labels) < 3 {
			labels = append(labels, label)
		}
	}
	if len(labels) == 0 {
		labels = im.p.pfs[:1]
	}
	return labels
}

var _ io.Writer = (*bounded)(nil)
