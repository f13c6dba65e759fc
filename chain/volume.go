package chain

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/anvilfs/anvilfs/ondisk"
)

var (
	// ErrNoSpace: the change does not fit. Abort the transaction; deleting,
	// DrainFrees or Bulkfree may help.
	ErrNoSpace = errors.New("no space on volume")

	// ErrNoPFS: no PFS of that label on the volume.
	ErrNoPFS = errors.New("no such PFS")

	// ErrPFSExists: the label is taken.
	ErrPFSExists = errors.New("PFS exists")

	// ErrReadOnly: the volume was opened for reading.
	ErrReadOnly = errors.New("volume is read-only")

	// ErrVolumeFailed: a write or flush failed earlier. Nothing more is
	// written until the volume is opened again.
	ErrVolumeFailed = errors.New("volume failed")

	// ErrForeign: somebody else changed the volume since we last wrote it.
	ErrForeign = errors.New("volume was changed by another writer")

	// ErrClosed: the volume is closed.
	ErrClosed = errors.New("volume is closed")
)

// Options say how a volume is opened.
type Options struct {
	ReadOnly   bool
	CacheBytes int64       // bound of decoded tables; 0 = 16 MiB
	Writer     ondisk.UUID // goes into the last-writer mark
	// DoubtFreemap marks all that the tree reaches, and takes a part of the
	// freemap that cannot be read for fully allocated instead of refusing it;
	// a Bulkfree then finds what is free there. Only for repair.
	DoubtFreemap bool
	Grow         bool // make it as large as its devices
	// Add is a device that becomes one more volume, behind the others. Whatever
	// is on it is lost. The volume owns it like the others.
	Add ondisk.Device
	// Copied tells whether a clustered PFS of the volume has other copies: only
	// then txgs in the intent log may be given up. nil: none has.
	Copied func(ctx context.Context, v *Volume, p *PFSInfo) bool
	// DropLog gives up what is in the intent log of the only copy of a PFS and
	// cannot be applied, instead of refusing the volume. Only for repair.
	DropLog bool
	Logger  *slog.Logger // nil = silent
}

// A Volume is one HAMMER2 file system on its devices. Its methods are safe
// for concurrent use.
type Volume struct {
	opts  Options
	log   *slog.Logger
	cache *tableCache              // decoded tables, for views and transactions
	geo   atomic.Pointer[geometry] // replaced by who has the turn, never changed

	growing sync.Mutex    // one growth at a time; outside of the turn
	turn    chan struct{} // holds one token: the right to be the running Txn
	bulk    sync.Mutex    // one Bulkfree at a time
	fm      *freemap      // owned by whoever has the turn; nil if read-only
	slots   *headerSlots  // same
	ilog    intentLog     // same

	others []*headerSlots // of all volumes, during open
	floor  ondisk.Tid     // lowest tid the next header may get; set at open

	foreign bool  // at open
	guessed error // why it is not known what the freemap should have had marked, at open
	taint   error // what was wrong with the header slots, or the intent log, at open
	gaveUp  error // why this open dropped what was in the intent log
	grown   uint64
	failed  atomic.Pointer[failure]

	mu     sync.Mutex           // guards what follows; held for moments only
	hdr    *ondisk.VolumeHeader // the committed one; replaced, never changed
	seq    uint64               // headers written by this open
	pins   map[*pin]struct{}
	quar   quarantine
	space  Space
	lost   uint64 // bytes dropped that only Bulkfree finds
	closed bool
}

// A geometry is what the header fixes until the volume grows.
type geometry struct {
	devs  []ondisk.Device // in order of volume id
	loff  []uint64        // logical start of each, then the total size
	total uint64          // bytes of the file system
	beg   uint64          // allocator_beg
	slots int             // header slots
	grain uint64          // bytes that reach media together, at least 4096
}

// A failure is the first write or flush that did not succeed.
type failure struct{ err error }

// fail remembers the first error. Once it is set nothing is written.
func (v *Volume) fail(err error) {
	if v.failed.CompareAndSwap(nil, &failure{err}) {
		v.log.Error("volume failed: nothing more is written to it", "device", v.Name(), "err", err)
	}
}

// Failed returns the write or flush error that stopped the volume, or nil.
func (v *Volume) Failed() error {
	if f := v.failed.Load(); f != nil {
		return f.err
	}
	return nil
}

// Probe reads a page of each device, where header slots are. An error says that
// the device is gone; without one, what failed before was a spot on it. The first
// page may be such a spot, too.
func (v *Volume) Probe() error {
	page := ondisk.AlignedBuffer(pageLen)
	for _, d := range v.geo.Load().devs {
		var err error
		for i, off := range ondisk.SlotOffsets(uint64(d.Size())) {
			_, slotErr := d.ReadAt(page, off)
			if slotErr == nil {
				err = nil
				break
			}
			if i == 0 {
				err = slotErr
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", d.Name(), err)
		}
	}
	return nil
}

// Name names the volume's first device.
func (v *Volume) Name() string { return v.geo.Load().devs[0].Name() }

// Header returns a copy of the committed header.
func (v *Volume) Header() *ondisk.VolumeHeader {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.hdr.Clone()
}

// Foreign reports whether, at open, the last writer was somebody else.
func (v *Volume) Foreign() bool { return v.foreign }

// Guessed says why the freemap may call free what is in use: others wrote the
// volume, and not all that it reaches could be read. What may be overwritten then
// is below what could not be read.
func (v *Volume) Guessed() error { return v.guessed }

// Tainted says what about the header slots at open a crash of ours does not
// explain: a slot that cannot be read, or a damaged one that was not due next.
func (v *Volume) Tainted() error { return v.taint }

// GaveUp is why txgs of the intent log were dropped at open; nil: none was.
func (v *Volume) GaveUp() error { return v.gaveUp }

// State returns the committed state entry of a PFS.
func (v *Volume) State(fsid ondisk.UUID) (ondisk.StateEntry, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if e := v.hdr.State(fsid); e != nil {
		return *e, true
	}
	return ondisk.StateEntry{}, false
}

// A pin keeps the blocks below one root readable.
type pin struct {
	seq  uint64 // of a header whose tree it is in
	root ondisk.Blockref
	past bool // the committed tree has that root no more
}

// follow moves the pin on to the header that a transaction just wrote, unless
// it changed what is pinned: a snapshot that is looked at for days must not
// keep all space that others drop meanwhile. v.mu is held.
func (p *pin) follow(seq uint64, changed map[uint64]*pfsInfo) {
	if _, ok := changed[p.root.Key]; ok || p.root.Key&ondisk.DirBit == 0 { // the super-root changes each time
		p.past = true
	}
	if !p.past {
		p.seq = seq
	}
}

// pinLocked keeps what root reaches from being reused. v.mu is held.
func (v *Volume) pinLocked(root ondisk.Blockref) *pin {
	p := &pin{seq: v.seq, root: root}
	v.pins[p] = struct{}{}
	return p
}

func (v *Volume) unpin(p *pin) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.pins, p)
}

// oldestPinLocked is the lowest seq of a pin, the present one without pins.
func (v *Volume) oldestPinLocked() uint64 {
	oldest := v.seq
	for p := range v.pins {
		oldest = min(oldest, p.seq)
	}
	return oldest
}
