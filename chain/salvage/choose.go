package salvage

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/anvilfs/anvilfs/chain/media"
	"github.com/anvilfs/anvilfs/ondisk"
)

// header is that of the slot.
func header(set *media.Set, slot int) (*ondisk.VolumeHeader, error) {
	if slot < 0 {
		return set.Header(), nil
	}
	for i := range set.Slots {
		if s := &set.Slots[i]; s.Index == slot && s.Header != nil {
			return s.Header, nil
		}
	}
	if s := set.Spare; s != nil && slot == 1 && s.Header != nil {
		return s.Header, nil // the second state of a volume with one slot
	}
	return nil, fmt.Errorf("slot %d: %w: anvilfs show volume lists them", slot, ErrNoSlot)
}

// older are the other headers of the volume, newest first.
func (c *copier) older() []*media.Slot {
	var list []*media.Slot
	for i := range c.set.Slots {
		list = append(list, &c.set.Slots[i])
	}
	if c.set.Spare != nil {
		list = append(list, c.set.Spare)
	}
	list = slices.DeleteFunc(list, func(s *media.Slot) bool {
		return s.Header == nil || s.Header.Fsid != c.hdr.Fsid || s.Header.MirrorTid >= c.hdr.MirrorTid
	})
	slices.SortStableFunc(list, func(a, b *media.Slot) int { return cmp.Compare(b.Header.MirrorTid, a.Header.MirrorTid) })
	return list
}

// A candidate is a PFS that the volume has.
type candidate struct {
	media.PFS
	why error       // it cannot be entered from the header in use
	old *media.Slot // the older header that it is entered from; nil = none
}

// unreadable reports whether nothing leads from the root of p to what is in it.
func unreadable(p *media.PFS) bool { return p.Err != nil && len(p.Set) == 0 }

// is reports whether p has that label. Of a root that cannot be read the key
// tells it.
func is(p *media.PFS, label string) bool {
	if p.Meta.NameLen == 0 {
		return p.Ref.Key&^ondisk.CollisionMask == ondisk.NameHash(label)
	}
	return p.Label() == label
}

// internal reports whether a PFS is nobody's: that of the node, or a shadow.
func internal(label string) bool {
	return label == "LOCAL" || strings.HasPrefix(label, ".anvilfs-")
}

// candidates lists the PFSs. What the header in use does not lead to is looked for
// in the older ones, unless a certain header was asked for. damage is that of
// the list itself.
func (c *copier) candidates(ctx context.Context) (list []candidate, damage error) {
	pfss, damage := c.set.PFSs(ctx, c.hdr)
	if damage != nil {
		c.lost("the list of PFSs", damage)
	}
	whole := damage == nil
	for i := range pfss {
		list = append(list, candidate{PFS: pfss[i]})
		if unreadable(&pfss[i]) {
			list[i].why, whole = pfss[i].Err, false
		}
	}
	if whole || c.o.Slot >= 0 {
		return list, damage
	}
	for _, s := range c.older() {
		before, _ := c.set.PFSs(ctx, s.Header) // the next one may know more
		for _, p := range before {
			i := slices.IndexFunc(list, func(k candidate) bool { return k.Ref.Key == p.Ref.Key })
			switch {
			case i < 0 && damage != nil:
				list = append(list, candidate{PFS: p, why: damage, old: s})
			case i >= 0 && unreadable(&list[i].PFS) && !unreadable(&p):
				list[i].PFS, list[i].old = p, s
			}
		}
	}
	return list, damage
}

// choose finds the PFS. With ErrRoot, what is known of it is returned too.
func (c *copier) choose(ctx context.Context) (candidate, error) {
	list, damage := c.candidates(ctx)
	var names []string
	var found *candidate
	for i := range list {
		p := &list[i]
		if c.o.Label != "" && is(&p.PFS, c.o.Label) {
			return *p, c.enterable(p)
		}
		if internal(p.Label()) {
			continue
		}
		if c.o.Label == "" {
			found = p
		}
		names = append(names, p.Label())
	}
	switch {
	case found != nil && len(names) == 1:
		return *found, c.enterable(found)
	case damage != nil && (c.o.Label != "" || found == nil):
		k := candidate{why: damage}
		k.Err = damage
		return k, c.enterable(&k)
	}
	return candidate{}, noPFS(c.o.Label, names)
}

// noPFS says that there is no PFS of that label, but those of names.
func noPFS(label string, names []string) error {
	if len(names) == 0 {
		names = []string{"none"}
	} else if label == "" {
		return fmt.Errorf("%w without a name, since there are %s", ErrNoPFS, strings.Join(names, ", "))
	}
	return fmt.Errorf("%q: %w: there are %s", label, ErrNoPFS, strings.Join(names, ", "))
}

// enterable is an ErrRoot if nothing leads into k.
func (c *copier) enterable(k *candidate) error {
	if !unreadable(&k.PFS) {
		return nil
	}
	from := "from any header"
	if c.o.Slot >= 0 {
		from = "from that header"
	}
	return fmt.Errorf("%q: %w %s: %w: anvilfs recover --deleted looks through the whole device", c.o.Label, ErrRoot, from, k.Err)
}

// pick is choose, and says where an older header is needed.
func (c *copier) pick(ctx context.Context) (candidate, error) {
	k, err := c.choose(ctx)
	if err == nil && k.old != nil {
		c.lost("PFS "+k.Label(), fmt.Errorf("%w, of txg %v, from header %d, since %w: %w: anvilfs recover --deleted looks for the rest", ErrOlder,
			k.Ref.MirrorTid, max(k.old.Index, -k.old.Index), ErrRoot, k.why))
	}
	return k, err
}
