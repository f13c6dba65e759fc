package ondisk

import (
	"fmt"
	"strconv"
	"strings"
)

// A Tid is a transaction number. Inside a clustered PFS it is the cluster's:
// bit 63 zero, 31 bits of epoch, 32 bits of sequence. Volumes written by
// others hold plain counters, which read as epoch 0. Zero means "none".
type Tid uint64

// MakeTid joins an epoch in [0, 1<<31) and a sequence number. It panics on a
// larger epoch: no media can reach that many elections.
func MakeTid(epoch, seq uint32) Tid {
	if epoch>>31 != 0 {
		panic(fmt.Sprintf("ondisk: epoch %d does not fit 31 bits", epoch))
	}
	return Tid(epoch)<<32 | Tid(seq)
}

// Epoch is the upper half of t.
func (t Tid) Epoch() uint32 { return uint32(t >> 32) }

// Seq is the lower half of t.
func (t Tid) Seq() uint32 { return uint32(t) }

// String returns "epoch:sequence", both decimal.
func (t Tid) String() string {
	return strconv.FormatUint(uint64(t.Epoch()), 10) + ":" + strconv.FormatUint(uint64(t.Seq()), 10)
}

// ParseTid reads what String writes.
func ParseTid(s string) (Tid, error) {
	e, q, ok := strings.Cut(s, ":")
	epoch, err1 := strconv.ParseUint(e, 10, 32)
	seq, err2 := strconv.ParseUint(q, 10, 32)
	if !ok || err1 != nil || err2 != nil {
		return 0, fmt.Errorf("tid %q: want EPOCH:SEQUENCE, as in 3:17", s)
	}
	return Tid(epoch)<<32 | Tid(seq), nil
}
