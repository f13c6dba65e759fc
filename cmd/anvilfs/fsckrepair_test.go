package main

import (
	"bytes"
	"errors"
	"testing"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// A member that lost a header which was not due next may have lost what it
// acknowledged: only where nobody else has to know is that put right.
func TestRepairLeavesAMemberThatLostAHeader(t *testing.T) {
	for _, members := range []int{1, 3} {
		disks := volumes(t, members)
		tainted := 0
		for _, off := range ondisk.SlotOffsets(uint64(disks[0].Size())) {
			d := disks[0].Clone()
			if _, err := d.WriteAt(bytes.Repeat([]byte{0x5a}, ondisk.HeaderSize), off); err != nil {
				t.Fatal(err)
			}
			v, err := chain.Open(t.Context(), []ondisk.Device{d}, chain.Options{})
			if err != nil {
				t.Fatal(err)
			}
			taint, refusal := v.Tainted(), voted(t.Context(), v)
			switch {
			case taint == nil && refusal != nil, members == 1 && refusal != nil:
				t.Errorf("%d members, slot at %#x: refused: %v", members, off, refusal)
			case taint != nil && members > 1 && !errors.Is(refusal, taint):
				t.Errorf("slot at %#x of a member: %v is put right", off, taint)
			}
			if taint != nil {
				tainted++
			}
			if err := v.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if tainted == 0 {
			t.Errorf("%d members: no slot is missed", members)
		}
	}
}

// volumes are members of a cluster, or one that is of none, with each header
// slot written.
func volumes(t *testing.T, n int) (disks []*memdev.Device) {
	t.Helper()
	var vols []*chain.Volume
	var roles []ondisk.PFSType
	for range n {
		d := memdev.New(5 << 30) // three slots
		devs := []ondisk.Device{d}
		o := chain.FormatOptions{Labels: []chain.PFSSpec{{Label: "HOME", Type: ondisk.PFSMaster}}}
		if _, err := chain.Format(t.Context(), devs, o); err != nil {
			t.Fatal(err)
		}
		v, err := chain.Open(t.Context(), devs, chain.Options{})
		if err != nil {
			t.Fatal(err)
		}
		disks, vols, roles = append(disks, d), append(vols, v), append(roles, ondisk.PFSMaster)
	}
	if n > 1 {
		if err := cluster.Found(t.Context(), vols, "HOME", roles); err != nil {
			t.Fatal(err)
		}
	}
	for _, v := range vols {
		if err := errors.Join(v.RewriteHeaders(t.Context()), v.Close()); err != nil {
			t.Fatal(err)
		}
	}
	return disks
}
