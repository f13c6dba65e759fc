package chain

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/anvilfs/anvilfs/ondisk"
)

// ErrNotLogged: the txg does not go into the intent log, for want of a log, of
// room in it, or because it is none for it. Nothing was written: commit it.
var ErrNotLogged = errors.New("not for the intent log")

// ErrLogStuck: what is in the intent log cannot be brought into the tree, which
// is damaged. Nothing can be changed until the tree is repaired or GiveUpLog
// was called.
var ErrLogStuck = errors.New("the intent log cannot be applied")

const (
	maxLogArea   = 64 << 20 // of the aux area, from its start
	minLogArea   = 4 << 20
	maxLogged    = 1 << 20 // bytes of one record
	maxLogBytes  = 8 << 20 // of all that is not in the tree
	maxLogTxgs   = 512     // since each is applied by itself
	logAreaShare = 2       // at most one part in so many of the area is in use

	// Space that stays free for the tree of what is logged, at most: the way
	// down to the leaves of a txg, and a table for each of them.
	logPath  = 512 << 10
	logTable = 64 << 10
)

// An intentLog makes small txgs durable with one write and one flush. The aux
// area of the first device, which other systems leave alone, is a ring of
// records; each is a txg that is durable and not yet in the tree.
//
//	header ── Log ──▶ record 0 ─ record 1 ─ ... ─ record n ─▶ at
//	 (T,H) ── prev ──▶ (T,H)  ── prev ──▶ ...
//
// A record counts if it has the header's seed, its number since that header,
// a right code, and continues the position of its PFS: that in the header, or
// that after the record before. So neither a torn record counts, nor one of an
// earlier lap, nor one that follows a state that was given up.
//
// Begin applies what is in the log, so that every transaction stands on the
// newest state, and its Commit writes a header behind which the log is empty,
// under a new seed. Only what must go on although the log cannot be applied -
// freeing space - commits headers that leave the log as it is.
//
// Whoever has the volume's turn owns it. A record is written only after the
// header that has its seed is durable, and by the process that wrote that.
type intentLog struct {
	beg, end int64  // the ring, on the first device; equal = there is none
	at       int64  // where the next record goes
	used     int64  // bytes from the first record to at, what was skipped included
	need     uint64 // bytes that bringing pending into the tree takes at most
	seed     uint64
	ready    bool   // this open wrote the header that names seed
	buf      []byte // of the last record, used again
	pending  []LogTxg
	good     int          // of pending that the last try to apply them got through
	count    atomic.Int32 // len(pending), for everybody
}

// LogArea is the ring on the first device of a volume; equal = there is none.
func LogArea(h *ondisk.VolumeHeader) (beg, end int64) {
	// Damaged or hostile numbers must not have us write over anything else;
	// from the second zone on a reserved segment may lie within the area.
	if h.AuxBeg < ondisk.ReservedSize || h.AuxEnd > h.AllocatorBeg || h.AuxBeg%pageLen != 0 || h.AuxBeg > h.AuxEnd {
		return 0, 0
	}
	end = int64(min(h.AuxEnd, h.AuxBeg+maxLogArea, ondisk.ZoneSize)) &^ (pageLen - 1)
	if end-int64(h.AuxBeg) < minLogArea {
		return 0, 0
	}
	return int64(h.AuxBeg), end
}

// newSeed is never zero.
func newSeed() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return binary.LittleEndian.Uint64(b[:]) | 1
}

// Logged is how many txgs are in the log and not in the tree.
func (v *Volume) Logged() int { return int(v.ilog.count.Load()) }

// Log makes a txg durable without bringing it into the tree: what View shows
// does not contain it before the next Commit. ErrNotLogged: commit it instead.
// Any other error fails the volume, and nobody knows whether it is durable.
func (v *Volume) Log(ctx context.Context, x LogTxg) error {
	if v.opts.ReadOnly {
		return fmt.Errorf("%s: %w", v.Name(), ErrReadOnly)
	}
	if err := v.takeTurn(ctx); err != nil {
		return err
	}
	defer v.passTurn()
	l := &v.ilog
	off, size, skip, ok := l.place(x.Batch)
	need := treeCost(x.Batch)
	if !ok || l.need+need+LastRoom > v.fm.usable {
		// Whatever fills the volume later: what was acknowledged finds room. What
		// may take the last of it, and who may, is for a commit.
		return ErrNotLogged
	}
	if at, ok, err := v.positionOf(ctx, &x); err != nil || !ok || at != x.Prev {
		return errors.Join(ErrNotLogged, err)
	}
	if err := x.Batch.Validate(); err != nil {
		return err
	}
	buf := l.buffer(size)
	encodeRecord(buf, &x, l.seed, uint64(len(l.pending)))
	dev := v.geo.Load().devs[0]
	n, err := dev.WriteAt(buf, off)
	if err != nil || n < size {
		err = fmt.Errorf("%s: intent log: write of %d bytes at %#x: %w", dev.Name(), size, off, orShort(err))
	} else {
		err = flushDevice(dev)
	}
	if err != nil {
		v.fail(err)
		return fmt.Errorf("%s: %w: %w", v.Name(), ErrVolumeFailed, err)
	}
	l.at = off + int64(size)
	l.used += skip + int64(size)
	l.need += need
	l.pending = append(l.pending, x)
	l.count.Store(int32(len(l.pending)))
	return nil
}

// buffer returns size bytes of any content, which are the caller's until the
// next call.
func (l *intentLog) buffer(size int) []byte {
	if len(l.buf) < size {
		l.buf = ondisk.AlignedBuffer(min(2*size, maxLogged))
	}
	return l.buf[:size:size]
}

// treeCost is the most that bringing a batch into the tree takes, blocks that
// are dropped again before the commit included.
func treeCost(b *Batch) uint64 {
	n := uint64(logPath)
	for i := range b.Changes {
		n += logTable
		if blk := b.Changes[i].Block; blk != nil {
			n += max(uint64(1)<<blk.Radix, ondisk.ChunkSize)
		}
	}
	return n
}

// place finds room for a record. skip is what is left unused before it.
func (l *intentLog) place(b *Batch) (off int64, size int, skip int64, ok bool) {
	if !l.ready || !b.Loggable() || len(l.pending) >= maxLogTxgs {
		return 0, 0, 0, false
	}
	size = recordSize(b)
	off = l.at
	if off+int64(size) > l.end {
		skip, off = l.end-off, l.beg
	}
	used := l.used + skip + int64(size)
	return off, size, skip, size <= maxLogged && used <= min(maxLogBytes, (l.end-l.beg)/logAreaShare)
}

// positionOf is where the PFS of a txg is, the log included; ok is false if it
// is not of the kind that the txg takes it for.
func (v *Volume) positionOf(ctx context.Context, x *LogTxg) (at LogPos, ok bool, err error) {
	for i := range slices.Backward(v.ilog.pending) {
		if p := &v.ilog.pending[i]; p.Fsid == x.Fsid {
			return p.Pos, sameRank(p.Entry, x.Entry), nil
		}
	}
	if e := v.hdr.State(x.Fsid); e != nil {
		return LogPos{e.T, e.H}, sameRank(e, x.Entry), nil
	}
	rec, err := findRoot(ctx, v, v.cache, sroot(v.hdr), x.Label, nil)
	if err != nil {
		return at, false, err
	}
	return LogPos{T: rec.Ref.MirrorTid}, x.Entry == nil && rec.Meta.PFSFsid == x.Fsid, nil
}

// sameRank reports whether a txg leaves alone what only a header may change:
// whether its PFS is clustered, and a promise, which is no txg. A record that
// changed it would be found to be wrong by the next open, and be lost.
func sameRank(a, b *ondisk.StateEntry) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.PromisedEpoch == b.PromisedEpoch && a.Candidate == b.Candidate && a.Incarnation == b.Incarnation
}

// Checkpoint brings what is in the log into the tree, with one header.
func (v *Volume) Checkpoint(ctx context.Context) error {
	if v.Logged() == 0 {
		return nil
	}
	t, err := v.Begin(ctx)
	if err != nil {
		return err
	}
	return t.Commit(ctx)
}

// applyLog makes what is in the log part of the transaction. Each txg is
// applied by itself, so that leaves are what they are where there is no log.
func (t *Txn) applyLog(ctx context.Context) error {
	reserve := t.useReserve
	t.useReserve = true // the space was promised when the txg was acknowledged
	defer func() { t.useReserve = reserve }()
	l := &t.v.ilog
	for i := range l.pending {
		x := &l.pending[i]
		l.good = i
		if err := t.Apply(ctx, x.Label, x.Batch); err != nil {
			if t.v.Failed() == nil && !errors.Is(err, ErrNoSpace) && ctx.Err() == nil {
				err = fmt.Errorf("%w: %w", ErrLogStuck, err)
			}
			return fmt.Errorf("%s: intent log, txg %v: %w", t.v.Name(), x.Pos.T, err)
		}
		if x.Entry == nil {
			continue
		}
		if err := t.SetState(*x.Entry); err != nil {
			return err
		}
	}
	t.logged = len(l.pending)
	return nil
}

// markLog writes into the next header where the log goes on.
func (t *Txn) markLog(hdr *ondisk.VolumeHeader) {
	l := &t.v.ilog
	switch {
	case l.beg == l.end:
		hdr.Mark.Log, hdr.Mark.LogSeed = 0, 0
	case t.logged == len(l.pending):
		hdr.Mark.Log, hdr.Mark.LogSeed = uint64(l.at), newSeed()
	}
}

// restart empties the log behind a header that contains all of it.
func (l *intentLog) restart(hdr *ondisk.VolumeHeader, applied int) {
	if applied < len(l.pending) || l.beg == l.end {
		return
	}
	l.pending, l.used, l.need, l.seed, l.ready = nil, 0, 0, hdr.Mark.LogSeed, true
	l.count.Store(0)
}
