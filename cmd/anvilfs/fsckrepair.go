package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/chain/fsck"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/cmd/advice"
	"github.com/anvilfs/anvilfs/fs"
	"github.com/anvilfs/anvilfs/fs/repair"
)

// repairRounds bounds how often names are looked at again: one fix may show
// the next.
const repairRounds = 4

// A fsckRepair puts right what is certain on members that are not mounted.
type fsckRepair struct {
	out, errs io.Writer
	dryRun    bool
	changed   bool
	code      int // failures, as fsck(8) says them
}

// run repairs the members of reports, in the order of words.
func (r *fsckRepair) run(ctx context.Context, words []string, reports map[string]*fsck.Report) {
	var labels []string
	for _, w := range words {
		rep := reports[w]
		if rep == nil {
			continue
		}
		if rep.Freemap || rep.Slots || rep.LogDamaged {
			r.fail(w, r.volume(ctx, w, rep))
		}
		for _, f := range rep.Fixes {
			if !slices.Contains(labels, f.PFS) {
				labels = append(labels, f.PFS)
			}
		}
	}
	for _, label := range labels {
		s := source{label: label}
		for _, w := range words {
			if rep := reports[w]; rep != nil && slices.ContainsFunc(rep.PFSs, func(p fsck.PFSReport) bool { return p.Label == label }) {
				m, err := parseMember(w)
				r.fail(w, err)
				s.members = append(s.members, m)
			}
		}
		r.fail(label, r.names(ctx, s, reports))
	}
}

func (r *fsckRepair) fail(what string, err error) {
	if err == nil {
		return
	}
	fmt.Fprintf(advice.Lines(r.errs), "anvilfs: %s: not repaired: %v\n", what, err)
	r.code |= fsckOperational
}

func (r *fsckRepair) say(what, format string, args ...any) {
	verb := "repaired"
	if r.dryRun {
		verb = "would be repaired"
	}
	fmt.Fprintf(advice.Lines(r.out), "%s: %s: %s\n", what, verb, fmt.Sprintf(format, args...))
	r.changed = r.changed || !r.dryRun
}

// volume makes the freemap of a member up from its tree, and writes its header
// slots anew.
func (r *fsckRepair) volume(ctx context.Context, word string, rep *fsck.Report) error {
	tell := func() {
		if rep.Freemap {
			r.say(word, "the freemap is made up from the tree")
		}
		if rep.Slots || rep.LogDamaged {
			r.say(word, "all header slots are written anew")
		}
	}
	if r.dryRun {
		if rep.LogDamaged {
			r.say(word, "what the intent log holds is applied as far as it goes, and the rest dropped")
		}
		tell()
		return nil
	}
	return withVolume(ctx, word, chain.Options{DoubtFreemap: rep.Freemap, DropLog: true, Copied: cluster.Copied}, func(v *chain.Volume) error {
		if err := v.GaveUp(); err != nil {
			r.say(word, "txgs that the intent log held are dropped, with what was written last: %v", err)
		} else if err := voted(ctx, v); err != nil {
			return err
		}
		// First of all, what is in use must not be free any longer.
		if err := v.RewriteHeaders(ctx); err != nil {
			return err
		}
		tell()
		if !rep.Freemap {
			return nil
		}
		free, err := v.Bulkfree(ctx, chain.BulkfreeOptions{})
		if err != nil {
			return fmt.Errorf("the freemap is right, and calls more allocated than is in use: %w", err)
		}
		r.say(word, "%s found free", human(free.Freed))
		return nil
	})
}

// voted refuses a member of a cluster whose header slots tell that it may have
// lost what it acknowledged. The others have to know that, and the slots say it.
func voted(ctx context.Context, v *chain.Volume) error {
	taint := v.Tainted()
	if taint == nil {
		return nil
	}
	infos, err := v.PFSs(ctx)
	if err != nil {
		return err
	}
	for _, i := range infos {
		n, err := cluster.Size(ctx, v, i.Label)
		if err != nil {
			return fmt.Errorf("%s: whether it is a member of a cluster cannot be read: mount it with the others, if there are any: %w", i.Label, err)
		}
		if n > 1 {
			return fmt.Errorf("it is a member of a cluster, and lost a header that may have been the newest: mount it with the others, which copies it anew (%w)", taint)
		}
	}
	return nil
}

// names puts names and inodes of one PFS right, on all its members at once.
func (r *fsckRepair) names(ctx context.Context, s source, reports map[string]*fsck.Report) error {
	if r.dryRun {
		for _, f := range reports[s.members[0].name].Fixes {
			if f.PFS == s.label {
				r.say(s.label, "%v", f)
			}
		}
		return nil
	}
	for range repairRounds {
		// What one member says counts if it has what the majority has.
		fixes, err := r.certain(ctx, s)
		if err != nil || len(fixes) == 0 {
			return err
		}
		err = withPool(ctx, s, func(p *cluster.Pool) error {
			err := repair.Apply(ctx, fs.OnPool(p), fixes, time.Now(), func(f fsck.Fix) { r.say(s.label, "%v", f) })
			return errors.Join(err, p.Sync(ctx))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// certain brings the members in sync and returns the fixes that one of them
// asks for.
func (r *fsckRepair) certain(ctx context.Context, s source) ([]fsck.Fix, error) {
	level := ""
	err := withPool(ctx, s, func(p *cluster.Pool) error {
		gather(ctx, p, slog.New(slog.DiscardHandler))
		for _, n := range p.Status().Nodes {
			if n.State == cluster.NodeInSync && level == "" {
				level = n.Name
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if level == "" {
		return nil, errors.New("no member came in sync: anvilfs mount says why")
	}
	rep, err := fsckOne(ctx, level, fsck.Options{SkipData: true})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(rep.Fixes, func(f fsck.Fix) bool { return f.PFS != s.label }), nil
}

// withPool opens a filesystem that is not mounted for fn, and closes it.
func withPool(ctx context.Context, s source, fn func(*cluster.Pool) error) (err error) {
	p, err := openPool(ctx, s, &mountOptions{}, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer func() {
		cctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		err = errors.Join(err, p.Close(cctx))
	}()
	return fn(p)
}
