package cluster

import (
	"math/rand/v2"
	"testing"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// What a group takes on media is no more than what was admitted for it.
func TestWorstCaseHoldsAll(t *testing.T) {
	dev := formatted(t, 256<<20)
	v, err := chain.Open(bg, []ondisk.Device{dev}, chain.Options{})
	check(t, err)
	defer v.Close()
	rnd := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, ondisk.LogicalBlock-100) // no compression helps
	for round := range ondisk.Tid(12) {
		b := &chain.Batch{T: ondisk.MakeTid(1, uint32(round)+10)}
		files := 1 + rnd.IntN(120)
		for i := range files {
			for j := range data {
				data[j] = byte(rnd.Uint32())
			}
			b.Changes = append(b.Changes, blockFile(t, b.T, 2000+uint64(round)*1000+uint64(i), data).Changes...)
		}
		b.Sort()
		view, err := v.View(bg, testLabel)
		check(t, err)
		most := WorstCase(int64(len(b.Changes)), int64(files), int64(files)*ondisk.LogicalBlock, Tables(view.Root()))
		view.Release()
		before := v.Space().Free
		txn, err := v.Begin(bg)
		check(t, err)
		check(t, txn.Apply(bg, testLabel, b))
		check(t, txn.Commit(bg))
		if took := int64(before) - int64(v.Space().Free); took > most+costFixed {
			t.Errorf("%d files took %d bytes, %d were admitted", files, took, most+costFixed)
		}
	}
}
