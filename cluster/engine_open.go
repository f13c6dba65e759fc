package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
)

// An opening is the end of an attempt to open a member.
type opening struct {
	m    *member
	c    *conn
	d    core.Durable
	err  error
	late bool // nobody waits for it any more
}

// openAll opens all members at once. It waits for the slow ones as long as
// the rest is no quorum, and a little longer; then they are left to come
// later. The conns it returns belong to the caller.
func (e *engine) openAll(ctx context.Context) ([]opening, error) {
	results := make(chan opening, len(e.members))
	o := e.o // the label may be found out while a slow one still opens
	for _, m := range e.members {
		e.tasks.Go(func() {
			c, d, err := openMember(e.ctx, m.spec, &o, e.log)
			results <- opening{m: m, c: c, d: d, err: err}
		})
	}
	var opened []opening
	began := time.Now()
	limit := time.NewTimer(e.deadline)
	defer limit.Stop()
	var rest <-chan time.Time
	for len(opened) < len(e.members) {
		select {
		case r := <-results:
			opened = append(opened, r)
			if _, err := Adopt(e.answersOf(opened)); err == nil && rest == nil {
				rest = time.After(restWait)
			}
			continue
		case <-rest:
		case <-limit.C:
		case <-ctx.Done():
			e.expect(results, len(e.members)-len(opened))
			return opened, ctx.Err()
		}
		e.expect(results, len(e.members)-len(opened))
		break
	}
	for _, m := range e.members {
		if !answered(opened, m) {
			m.enter(NodeHung, fmt.Sprintf("opening takes longer than %v", time.Since(began).Round(time.Second)), "it is taken in once it is open")
		}
	}
	return opened, nil
}

func answered(opened []opening, m *member) bool {
	for _, r := range opened {
		if r.m == m {
			return true
		}
	}
	return false
}

// expect takes in the members that open late.
func (e *engine) expect(results <-chan opening, n int) {
	e.tasks.Go(func() {
		for range n {
			r := <-results
			r.late = true
			if !e.post(func() { e.reopened(r) }) && r.c != nil {
				r.c.close()
			}
		}
	})
}

func (e *engine) abandon(opened []opening) {
	close(e.quit)
	e.stop()
	close(e.ended)
	for _, r := range opened {
		if r.c != nil {
			r.c.close()
		}
	}
}

// answersOf are those that say what the state of the cluster is.
func (e *engine) answersOf(opened []opening) []Answer {
	var as []Answer
	for _, r := range opened {
		if r.c != nil && !e.returns(r.c) {
			as = append(as, answerOf(r.c, r.d))
		}
	}
	return as
}

func answerOf(c *conn, d core.Durable) Answer {
	return d.Answer(c.info.Fsid)
}

// admit refuses what must not be mounted, and takes in the rest.
func (e *engine) admit(opened []opening) error {
	// As they were given, whoever answered first: so is what is said of them.
	slices.SortStableFunc(opened, func(a, b opening) int { return a.m.index - b.m.index })
	if err := e.refuse(opened); err != nil {
		return err
	}
	for _, r := range opened {
		if r.err != nil {
			r.m.lost(r.err)
			e.log.Warn("member left out", "member", r.m.spec.Name, "err", r.err)
			continue
		}
		if !e.returns(r.c) {
			e.solo = r.c.solo
			e.clid, e.forked = r.c.info.Clid, r.c.fork
		}
		e.o.Label = r.c.label
		r.m.take(r.c, r.d)
	}
	if e.showsSnapshot() {
		return nil // all copies are equal, nothing is to be agreed on
	}
	_, err := Adopt(e.answersOf(opened))
	var few *core.NoQuorum
	switch {
	case err == nil:
		return nil
	case errors.As(err, &few) && e.o.ReadOnly && len(e.answersOf(opened)) > 0:
		return nil
	case errors.As(err, &few) && len(opened) == len(e.members) && onlySoft(opened):
		return &refusal{"no master of " + e.o.Label + " was given, and a soft slave can only be read: mount it with ro", ErrSoftAlone}
	case errors.As(err, &few):
		return e.explain(few, opened)
	}
	var clash *core.Conflict
	if errors.As(err, &clash) {
		return refusef("%s and %s say that different txgs were committed, at %v and %v: mount the one that is right alone, read-only, and replace the other",
			e.nameOf(clash.A), e.nameOf(clash.B), clash.PosA, clash.PosB)
	}
	return err
}

// onlySoft reports whether all that was given are soft slaves, and can be read.
func onlySoft(opened []opening) bool {
	for _, r := range opened {
		if r.err != nil || r.d.Flags != 0 || r.d.Charter == nil {
			return false
		}
		if in, ok := r.d.Charter.Config.Member(r.c.info.Fsid); !ok || in.Role != ondisk.PFSSoftSlave {
			return false
		}
	}
	return true
}

// showsSnapshot reports whether what was opened is a snapshot: its members
// have one identity, which refuse has seen to.
func (e *engine) showsSnapshot() bool {
	return slices.ContainsFunc(e.members, func(m *member) bool { return m.conn != nil && m.conn.snap })
}

// explain makes of a lack of quorum a text that says who is missing and why.
func (e *engine) explain(few *core.NoQuorum, opened []opening) error {
	var why []string
	for _, r := range opened {
		switch {
		case r.err != nil:
			why = append(why, r.err.Error())
		case r.d.Flags != 0:
			why = append(why, fmt.Sprintf("%s is %v: %s", r.c.name, r.d.Flags, r.c.why))
		case core.LostWrites(answerOf(r.c, r.d), e.answersOf(opened)):
			why = append(why, r.c.name+": "+whyLost)
		case e.leftOut(r, opened):
			why = append(why, fmt.Sprintf("%s was taken out of the cluster, and is at %s: leave it out of the mount", r.c.name, r.asOf()))
		}
	}
	for _, m := range e.members {
		if m.state == NodeHung {
			why = append(why, m.spec.Name+": "+m.err)
		}
	}
	for _, id := range few.Silent {
		if !e.given(id, opened) {
			why = append(why, fmt.Sprintf("the master with fsid %v was not given or could not be opened", id))
		}
	}
	return &refusal{e.tooFew(few, opened, why), ErrNoQuorum}
}

// tooFew says what matters first: what there is, and what can be done.
func (e *engine) tooFew(few *core.NoQuorum, opened []opening, why []string) string {
	reasons, head, remedy := strings.Join(why, "; "), few.Error(), "give more of them, or mount read-only to see the newest copy at hand"
	var missing *chain.MissingVolume
	var absent *absence
	switch {
	case slices.ContainsFunc(opened, func(r opening) bool { return errors.As(r.err, &missing) }):
		reasons, remedy = reasons+"; "+missing.Remedy(), ""
	case slices.ContainsFunc(opened, func(r opening) bool { return r.err == nil && !e.leftOut(r, opened) }):
	case slices.ContainsFunc(opened, func(r opening) bool { return r.err == nil }):
		remedy = "give those that took its place, or mount it read-only to see what it had when it was taken out"
	case !slices.ContainsFunc(opened, func(r opening) bool { return !errors.As(r.err, &absent) }):
		remedy = "" // these errors have their own
	case slices.ContainsFunc(opened, func(r opening) bool { return errors.Is(r.err, ondisk.ErrNotHammer2) }):
		remedy = "check the paths and devices, or make a filesystem with 'anvilfs newfs'"
	case slices.ContainsFunc(opened, func(r opening) bool { return errors.Is(r.err, ondisk.ErrCorrupt) }):
		remedy = "anvilfs fsck lists the damage, and anvilfs recover copies out what can be read"
	default:
		remedy = "check the paths and devices"
	}
	if few.Masters == 0 { // nothing says how many there are
		head = "nothing that was given can be used"
	}
	if few.Masters == 0 && len(why) == 1 {
		if head = reasons; remedy != "" {
			head += ": " + remedy
		}
		return head
	}
	for _, more := range []string{remedy, reasons} {
		if more != "" {
			head += ": " + more
		}
	}
	return head
}

// leftOut reports whether the newest configuration at hand does not know r.
func (e *engine) leftOut(r opening, opened []opening) bool {
	var newest *Charter
	var at ondisk.Tid
	for _, a := range e.answersOf(opened) {
		if a.Charter != nil && (newest == nil || a.Pos.T > at) {
			newest, at = a.Charter, a.Pos.T
		}
	}
	if newest == nil || r.c == nil || e.returns(r.c) {
		return false
	}
	_, ok := newest.Config.Member(r.c.info.Fsid)
	return !ok
}

func (e *engine) given(id ondisk.UUID, opened []opening) bool {
	for _, r := range opened {
		var u *chain.Unused
		if r.c != nil && r.c.info.Fsid == id || errors.As(r.err, &u) && slices.Contains(u.Fsids, id) {
			return true
		}
	}
	return false
}

// nameOf is how the user calls a node, its fsid if it was not given.
func (e *engine) nameOf(id ondisk.UUID) string {
	for _, m := range e.members {
		if m.fsid == id {
			return m.spec.Name
		}
	}
	return id.String()
}

// refuse finds mistakes in what was given.
func (e *engine) refuse(opened []opening) error {
	var first *conn
	readOnly := e.o.ReadOnly
	someOpened := slices.ContainsFunc(opened, func(r opening) bool { return r.c != nil })
	for i, r := range opened {
		var wrong *refusal
		switch {
		case errors.Is(r.err, chain.ErrNoPFS) && someOpened:
			// As a clone that a crash kept from one of them: it is left out.
		case errors.As(r.err, &wrong):
			return r.err
		}
		if r.c == nil {
			continue
		}
		if first == nil && !e.returns(r.c) {
			first = r.c
		}
		switch {
		case e.returns(r.c):
		case r.c.info.Type == ondisk.PFSCache:
			return refusef("%s is a cache, no member: name it as cache=%s behind a member", r.c.name, r.c.name)
		case r.c.snap && !readOnly:
			return &refusal{fmt.Sprintf("%s: %s is a snapshot and cannot be changed: mount it with ro, or make a clone of it with anvilfs snapshot clone MNT NAME LABEL",
				r.c.name, r.c.label), ErrIsSnapshot}
		case r.c.solo && len(opened) > 1:
			return refusef("%s: PFS %s is not part of a cluster: mount it alone, add it with anvilfs node replace MNT NODE DEVICE, or run anvilfs newfs -f again if that was interrupted", r.c.name, r.c.label)
		case r.c.info.Clid != first.info.Clid:
			return e.strangers(opened)
		}
		for _, o := range opened[:i] {
			if o.c != nil && o.c.info.Fsid == r.c.info.Fsid {
				return twins(o, r)
			}
		}
	}
	for _, r := range opened {
		if r.c != nil && first != nil && e.returns(r.c) && r.c.fork.Cluster != first.info.Clid {
			return refusef("%s is a branch of another cluster than %s (%v and %v)", r.c.name, first.name, r.c.fork.Cluster, first.info.Clid)
		}
	}
	return nil
}
