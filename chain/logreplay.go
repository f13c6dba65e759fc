package chain

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/anvilfs/anvilfs/ondisk"
)

// ReadLog returns the txgs in the intent log of a volume that are not in the
// tree of the header h, oldest first. dev is the first device, trees are the
// tids of the PFSs' roots in that tree, by fsid. An error of the device is returned as it
// is; ErrCorrupt and ErrBadBatch say that a record is damaged that was
// acknowledged, or is not one of ours, and come with the txgs before it.
//
// If another system wrote h, its changes count and not these.
func ReadLog(dev ondisk.Device, h *ondisk.VolumeHeader, trees map[ondisk.UUID]ondisk.Tid) ([]LogTxg, error) {
	beg, end := LogArea(h)
	if h.Mark.LogSeed == 0 || beg == end {
		return nil, nil
	}
	r := logReader{dev: dev, hdr: h, beg: beg, end: end, next: int64(h.Mark.Log), at: make(map[ondisk.UUID]LogPos)}
	if h.Mark.Log < uint64(beg) || h.Mark.Log > uint64(end) || h.Mark.Log%pageLen != 0 {
		return nil, damaged("the intent log goes on at %#x, it is in [%#x, %#x)", h.Mark.Log, beg, end)
	}
	for fsid, T := range trees {
		e := h.State(fsid)
		switch {
		case e == nil:
			r.at[fsid] = LogPos{T: T}
		case e.T == T: // else somebody else changed it
			r.at[fsid] = LogPos{e.T, e.H}
		}
	}
	var all []LogTxg
	for {
		x, err := r.read(uint64(len(all)))
		if err == nil && x == nil {
			err = r.acknowledged(uint64(len(all)))
		}
		if err != nil || x == nil {
			return all, err
		}
		if err := r.follows(x); err != nil {
			return all, err
		}
		all = append(all, *x)
	}
}

type logReader struct {
	dev      ondisk.Device
	hdr      *ondisk.VolumeHeader
	beg, end int64
	next     int64
	seen     int64 // bytes read: no log is longer than its ring
	at       map[ondisk.UUID]LogPos
}

// read returns the record of that number, nil if there is none.
func (r *logReader) read(number uint64) (*LogTxg, error) {
	x, n, err := r.readAt(r.next, number)
	if x == nil && err == nil && r.next != r.beg {
		if x, n, err = r.readAt(r.beg, number); x != nil {
			r.next = r.beg
		}
	}
	r.next += n
	return x, err
}

func (r *logReader) readAt(off int64, number uint64) (x *LogTxg, n int64, err error) {
	if off+pageLen > r.end {
		return nil, 0, nil
	}
	page := ondisk.AlignedBuffer(pageLen)
	if err := r.get(page, off); err != nil {
		return nil, 0, err
	}
	size := recordLen(page, r.hdr.Mark.LogSeed, number)
	if size == 0 || off+int64(size) > r.end || r.seen+int64(size) > r.end-r.beg {
		return nil, 0, nil
	}
	buf := ondisk.AlignedBuffer(size)
	copy(buf, page)
	if err := r.get(buf[pageLen:], off+pageLen); err != nil {
		return nil, 0, err
	}
	x, ok, err := decodeRecord(buf)
	if err != nil {
		return nil, 0, fmt.Errorf("%s: intent log at %#x: %w", r.dev.Name(), off, err)
	}
	if !ok {
		return nil, 0, nil
	}
	r.seen += int64(size)
	return x, int64(size), nil
}

// acknowledged returns an error if the record of that number, which is not
// there, was once durable: the one after it was begun only then. A record that
// was torn by a crash has none after it.
func (r *logReader) acknowledged(number uint64) error {
	var err error
	look := func(page []byte) bool {
		if recordLen(page, r.hdr.Mark.LogSeed, number+1) > 0 {
			T := ondisk.Tid(binary.LittleEndian.Uint64(page[recPrevT:]))
			err = damaged("intent log: record %d, which led to txg %v, cannot be read, and was acknowledged", number, T)
		}
		return err == nil
	}
	if r.eachPage(r.beg, r.beg+pageLen, look) {
		r.eachPage(r.next, min(r.next+maxLogged+pageLen, r.end), look)
	}
	return err
}

// eachPage shows the pages in [beg, end), many with one request, until look has
// enough, which it reports. Pages that cannot be read are left out: space that may
// never have been written tells nothing.
func (r *logReader) eachPage(beg, end int64, look func(page []byte) bool) (all bool) {
	const many = ondisk.MaxBlock
	pool := blockPool.Get().(*[]byte)
	defer blockPool.Put(pool)
	buf := (*pool)[:many]
	for at := beg; at < end; at += many {
		part := buf[:min(many, end-at)]
		whole := r.get(part, at) == nil
		for n := 0; n < len(part); n += pageLen {
			page := part[n : n+pageLen]
			if (whole || r.get(page, at+int64(n)) == nil) && !look(page) {
				return false
			}
		}
	}
	return true
}

func (r *logReader) get(p []byte, off int64) error {
	if n, err := r.dev.ReadAt(p, off); n < len(p) {
		return fmt.Errorf("%s: intent log at %#x: %w", r.dev.Name(), off, orShort(err))
	}
	return nil
}

// follows checks that x continues its PFS, and goes on from there.
func (r *logReader) follows(x *LogTxg) error {
	at, ok := r.at[x.Fsid]
	if !ok || at != x.Prev {
		return damaged("intent log: txg %v of PFS %v follows %v, the PFS is at %v", x.Pos.T, x.Fsid, x.Prev.T, at.T)
	}
	e := r.hdr.State(x.Fsid)
	if !sameRank(e, x.Entry) {
		return damaged("intent log: txg %v of PFS %v has another state than the header", x.Pos.T, x.Fsid)
	}
	r.at[x.Fsid] = x.Pos
	return nil
}

// findLog reads the log as it was left, with the labels of its PFSs.
func (v *Volume) findLog(ctx context.Context) ([]LogTxg, error) {
	beg, end := LogArea(v.hdr)
	if v.hdr.Mark.LogSeed == 0 || beg == end {
		return nil, nil
	}
	infos, err := v.PFSs(ctx)
	if err != nil && (!errors.Is(err, ondisk.ErrCorrupt) || len(infos) == 0) {
		return nil, err
	}
	trees := make(map[ondisk.UUID]ondisk.Tid)
	labels := make(map[ondisk.UUID]string)
	for i := range infos {
		p := &infos[i]
		labels[p.Fsid], trees[p.Fsid] = p.Label, p.T
	}
	all, err := ReadLog(v.geo.Load().devs[0], v.hdr, trees)
	for i := range all {
		all[i].Label = labels[all[i].Fsid]
	}
	return all, err
}
