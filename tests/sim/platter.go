package sim

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
	"golang.org/x/sys/unix"
)

const sectorSize = 512

// reserved is how much of each zone holds headers and freemap. A header that is
// lost without an error is a promise or a txg lost, and so is the last record of
// the intent log, which no protocol survives on q masters: only where the world
// knows of it silent faults go there.
const reserved = 4 << 20

// heads reports whether headers, freemap or the intent log are at off.
func (p *platter) heads(off int64) bool {
	return off%ondisk.ZoneSize < reserved || off >= p.auxBeg && off < p.auxEnd
}

var errGone = errors.New("the process is gone")

// A platter is a disk with a volatile cache: what was written reaches media at
// a flush, or in parts when the power goes.
type platter struct {
	cache   *memdev.Device // what reads get
	media   *memdev.Device // what is sure to survive
	pending []write        // in the cache only
	touched []int64        // places of blocks ever written, for damage at rest
	bad     map[int64]bool // sectors that cannot be read until they are written

	lies  uint64 // not 0: most flushes are not done, and this decides which
	round int    // of flushes that were asked for since one was done

	auxBeg, auxEnd int64 // where the intent log is
}

type write struct {
	off   int64
	data  []byte
	round int
}

func newPlatter(image *memdev.Device) *platter {
	p := &platter{cache: image.Clone(), media: image.Clone(), bad: make(map[int64]bool)}
	buf := make([]byte, ondisk.HeaderSize)
	if _, err := image.ReadAt(buf, 0); err == nil {
		if h, err := ondisk.DecodeVolumeHeader(buf); err == nil {
			p.auxBeg, p.auxEnd = int64(h.AuxBeg), int64(h.AuxEnd)
		}
	}
	return p
}

// cut is a power cut: of each pending sector chance decides by its place, not
// by the order in which concurrent writers came.
func (p *platter) cut(salt uint64) {
	times := make(map[int64]uint64)
	kept := p.keeps(salt)
	for _, w := range p.pending {
		if p.lies != 0 && (w.round < kept || salt&3 != 0) {
			if w.round < kept {
				put(p.media, w.data, w.off)
			}
			continue
		}
		for at := 0; at < len(w.data); at += sectorSize {
			off := w.off + int64(at)
			times[off]++
			if mix(salt, uint64(off)+times[off])&1 == 0 {
				put(p.media, w.data[at:min(at+sectorSize, len(w.data))], off)
			}
		}
	}
	p.pending, p.round = nil, 0
	p.cache = p.media.Clone()
}

// keeps is up to which round a disk that lies kept all when the power went. It
// may have kept parts of what came later, or not.
func (p *platter) keeps(salt uint64) int { return int(mix(salt, 3) % uint64(p.round+1)) }

// owes reports whether there are flushes that it said it had done.
func (p *platter) owes() bool { return p.round > 0 && len(p.pending) > 0 }

// honest ends the lies.
func (p *platter) honest() {
	p.lies = 0
	p.flush()
}

func (p *platter) flush() {
	if p.lies != 0 {
		if p.lies = mix(p.lies, 1) | 1; p.lies>>8%8 != 0 {
			p.round++
			return
		}
	}
	p.round = 0
	for _, w := range p.pending {
		put(p.media, w.data, w.off)
	}
	p.pending = nil
}

// place is where a block was written once, if there is one to choose.
func (p *platter) place(salt uint64) (int64, bool) {
	slices.Sort(p.touched)
	p.touched = slices.Compact(p.touched)
	if len(p.touched) == 0 {
		return 0, false
	}
	return p.touched[salt%uint64(len(p.touched))] + int64(salt>>32%1024), true
}

// flip inverts bits at rest.
func (p *platter) flip(off int64, bits byte) {
	var b [1]byte
	if _, err := p.media.ReadAt(b[:], off); err != nil {
		panic(err)
	}
	b[0] ^= bits
	put(p.media, b[:], off)
	put(p.cache, b[:], off)
}

// unreadable reports whether a request meets a bad sector.
func (p *platter) unreadable(off int64, n int) bool {
	for at := range p.bad {
		if at < off+int64(n) && at+sectorSize > off {
			return true
		}
	}
	return false
}

func put(d *memdev.Device, b []byte, off int64) {
	if _, err := d.WriteAt(b, off); err != nil {
		panic(err) // it was in range before
	}
}

// mix is a hash that depends on its arguments only.
func mix(salt, n uint64) uint64 {
	x := salt ^ n*0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// A diskFault is what the next requests of a session meet.
type diskFault uint8

const (
	noFault    diskFault = iota
	failWrite            // one of the writes: EIO
	tornWrite            // half of it, then EIO
	failFlush            // EIO; the cache is kept
	dropFlush            // EIO; what was in the cache is gone
	loseWrite            // silently
	strayWrite           // silently, to another place
	flipWrite            // silently, one bit
	halfWrite            // silently, the first half only
	failRead             // some reads: EIO, until the next stage
)

var diskFaultNames = [...]string{"no fault", "write fails", "write is torn", "flush fails", "flush fails and drops",
	"write is lost", "write goes astray", "a bit of a write flips", "half of a write is lost", "reads fail"}

func (f diskFault) String() string { return diskFaultNames[f] }

// silent faults are not reported by the disk.
func (f diskFault) silent() bool { return f >= loseWrite && f <= halfWrite }

// final faults are errors of a write: nothing may be written after one.
func (f diskFault) final() bool { return f == failWrite || f == failFlush || f == dropFlush }

// A session is one open of a platter by one process.
type session struct {
	p    *platter
	name string
	task *task  // stops at each flush; nil while opening
	deaf bool   // flushes are not heard
	blab bool   // silent faults are of headers and freemap as well
	lost []span // no block is to be written there: heads.go

	mu       sync.Mutex // guards what follows: the volume writes concurrently
	gone     bool
	fault    diskFault
	salt     uint64
	fired    int
	heads    int    // of fired: silent faults of headers and freemap
	owed     bool   // an error of a write that the flush reports
	failed   bool   // an error was returned in an earlier stage: I13
	after    string // a write that came all the same
	trespass error  // a write to what is lost
}

var _ ondisk.Device = (*session)(nil)

// stage sets what the requests until the next pause meet.
func (s *session) stage(f diskFault, salt uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = s.failed || s.fired > 0 && s.fault.final()
	s.fault, s.salt, s.fired, s.heads = f, salt, 0, 0
}

// ReadAt implements ondisk.Device.
func (s *session) ReadAt(b []byte, off int64) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return 0, errGone
	}
	if s.fault == failRead && mix(s.salt, uint64(off))%4 == 0 {
		s.fired = 1
		return 0, eio("read")
	}
	if s.p.unreadable(off, len(b)) {
		return 0, eio("bad sector")
	}
	return s.p.cache.ReadAt(b, off)
}

// WriteAt implements ondisk.Device.
func (s *session) WriteAt(b []byte, off int64) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.gone:
		return 0, errGone
	case s.failed:
		s.after = fmt.Sprintf("%d bytes at %#x", len(b), off)
	}
	if s.fault == failWrite {
		s.fired = 1 // which of several writers come this far is not ours to say
		return 0, eio("write")
	}
	head := s.p.heads(off)
	if !head {
		s.trespasses(off)
	}
	hit := mix(s.salt, uint64(off))%3 == 0 && !(head && s.fault.silent() && !s.blab)
	if hit && head && s.fault.silent() {
		s.heads++
	}
	if hit {
		switch s.fault {
		case tornWrite:
			s.fired++
			s.owed = true
			s.write(b[:len(b)/2&^(sectorSize-1)], off)
			return len(b), nil
		case loseWrite:
			s.fired++
			return len(b), nil
		case strayWrite:
			step := int64(4 << 20)
			if head {
				step = ondisk.MaxBlock // the place of another header, or of the freemap
			}
			if to := off + step; to+int64(len(b)) <= s.p.cache.Size() && (head || !s.p.heads(to)) {
				s.fired++
				s.write(b, to)
				return len(b), nil
			}
		case flipWrite:
			s.fired++
			b = slices.Clone(b)
			b[s.salt%uint64(len(b))] ^= 1
		case halfWrite:
			s.fired++
			s.write(b[:len(b)/2&^(sectorSize-1)], off)
			return len(b), nil
		}
	}
	s.write(b, off)
	if !head {
		s.p.touched = append(s.p.touched, off)
	}
	return len(b), nil
}

func (s *session) write(b []byte, off int64) {
	b = slices.Clone(b)
	for at := off; at < off+int64(len(b)) && len(s.p.bad) > 0; at += sectorSize {
		delete(s.p.bad, at)
	}
	put(s.p.cache, b, off)
	s.p.pending = append(s.p.pending, write{off, b, s.p.round})
}

// Flush implements ondisk.Device. A task pauses before anything is flushed.
func (s *session) Flush() error {
	if s.task != nil {
		s.task.pause()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.gone:
		return errGone
	case s.deaf:
		return nil
	case s.fault == failFlush || s.owed:
		s.fired++
		return eio("flush")
	case s.fault == dropFlush:
		s.fired++
		s.p.pending, s.p.round = nil, 0
		s.p.cache = s.p.media.Clone()
		return eio("flush")
	}
	s.p.flush()
	return nil
}

// Discard implements ondisk.Device.
func (s *session) Discard(off, n int64) error { return errors.ErrUnsupported }

// Measure implements ondisk.Device.
func (s *session) Measure() (int64, error) { return s.Size(), nil }

// Size implements ondisk.Device.
func (s *session) Size() int64 { return s.p.cache.Size() }

// BlockSize implements ondisk.Device.
func (s *session) BlockSize() int { return sectorSize }

// Name implements ondisk.Device.
func (s *session) Name() string { return s.name }

// Close implements ondisk.Device. Closing flushes nothing.
func (s *session) Close() error { return nil }

func eio(what string) error { return fmt.Errorf("injected into %s: %w", what, unix.EIO) }
