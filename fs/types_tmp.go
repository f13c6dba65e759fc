package fs

import "github.com/anvilfs/anvilfs/ondisk"

type Record struct {
	Meta   ondisk.InodeMeta
	Inline []byte
}
type Cost struct {
	Leaves int
	Bytes  int64
}
type StatFS struct{ Total, Free, Avail, Inodes uint64 }
