package cluster

import (
	"sync"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// lostWrites are blocks with something that calls wrote and that is not there. Who
// syncs the file, or everything, is told until the block was replaced by what
// does not need it, and at least once.
type lostWrites struct {
	mu     sync.Mutex
	blocks map[lostPlace]*lostWrite
}

type lostPlace struct{ inum, key uint64 }

type lostWrite struct {
	err      error
	told     bool // by Lost
	toldAll  bool // by LostAny
	replaced bool // a commit has other content there
}

func (l *lostWrites) add(inum, key uint64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.blocks == nil {
		l.blocks = make(map[lostPlace]*lostWrite)
	}
	l.blocks[lostPlace{inum, key}] = &lostWrite{err: err}
}

// committed hears what a group changed that is durable now.
func (l *lostWrites) committed(b *chain.Batch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.blocks) == 0 {
		return
	}
	for i := range b.Changes {
		c := &b.Changes[i]
		switch {
		case c.Kind == chain.KindInode && c.Delete:
			l.replaced(c.Inum, 0, maxData)
			l.forget(c.Inum)
		case c.Kind == chain.KindInode && c.Inode.DirectData():
			l.replaced(c.Inum, 0, maxData)
		case c.Kind == chain.KindData && c.Delete:
			l.replaced(c.Inum, c.Key, c.To)
		case c.Kind == chain.KindData:
			l.replaced(c.Inum, c.Key, c.Key+ondisk.LogicalBlock)
		}
	}
}

// replaced notes that the blocks [lo, hi) of an inode have other content.
func (l *lostWrites) replaced(inum, lo, hi uint64) {
	for at, w := range l.blocks {
		if at.inum == inum && lo <= at.key && at.key < hi {
			w.replaced = true
			l.settle(at)
		}
	}
}

// forget is for an inode that is gone: nobody can ask for it any more.
func (l *lostWrites) forget(inum uint64) {
	for at, w := range l.blocks {
		if at.inum == inum {
			w.told = true
			l.settle(at)
		}
	}
}

func (l *lostWrites) settle(at lostPlace) {
	if w := l.blocks[at]; w.replaced && w.told && w.toldAll {
		delete(l.blocks, at)
	}
}

// Lost returns why something that was written to an inode, and accepted, is not
// there, though a Sync returned nil. Who syncs a file asks behind that.
func (p *Pool) Lost(inum uint64) (err error) {
	l := &p.lost
	l.mu.Lock()
	defer l.mu.Unlock()
	for at, w := range l.blocks {
		if at.inum == inum && !(w.replaced && w.told) {
			err, w.told = w.err, true
			l.settle(at)
		}
	}
	return err
}

// LostAny is Lost for who syncs everything.
func (p *Pool) LostAny() (err error) {
	l := &p.lost
	l.mu.Lock()
	defer l.mu.Unlock()
	for at, w := range l.blocks {
		if !(w.replaced && w.toldAll) {
			err, w.toldAll = w.err, true
			l.settle(at)
		}
	}
	return err
}
