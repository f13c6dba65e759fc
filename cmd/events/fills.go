package events

import (
	"slices"
	"strings"
	"time"

	"github.com/anvilfs/anvilfs/cmd/advice"
)

// fills are the trees that were told of as being near their limits, by inode.
type fills map[uint64]filled

type filled struct {
	path string
	fill advice.Fill
}

// compare finds what a look at the trees tells, and remembers it.
func (f *fills) compare(now []advice.Tree, at time.Time) []Event {
	var list []Event
	next := make(fills)
	for i := range now {
		t := &now[i]
		before := (*f)[t.Inum].fill
		is := t.FillSince(before)
		if is != advice.Room {
			next[t.Inum] = filled{t.Path, is}
		}
		if is != before {
			e := Event{Time: at, What: QuotaOK, Path: t.Path, Count: uint64(t.Percent)}
			switch is {
			case advice.Near:
				e.What = QuotaNear
			case advice.Full:
				e.What, e.Bad = QuotaFull, true
			}
			list = append(list, e)
		}
		delete(*f, t.Inum)
	}
	var gone []Event
	for _, was := range *f {
		gone = append(gone, Event{Time: at, What: QuotaOK, Path: was.path})
	}
	slices.SortFunc(gone, func(a, b Event) int { return strings.Compare(a.Path, b.Path) })
	*f = next
	return append(list, gone...)
}
