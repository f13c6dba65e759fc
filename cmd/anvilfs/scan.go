package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/cmd/layout"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/filedev"
)

// A scan finds filesystems without being told where they are:
//
//	devices -> volume headers -> volumes, by their ids -> what is on them -> filesystems
//
// It writes nothing. What does not answer in time is named, and left out.

// scanLimit is how long each half of a scan takes at most.
const scanLimit = 10 * time.Second

// A foundDevice carries the header of a volume, or what may be one.
type foundDevice struct {
	path string
	hdr  *ondisk.VolumeHeader // nil: there is none, or see err
	err  error
}

// A foundMember is the devices of one volume in their order, and what is on it.
type foundMember struct {
	member
	holds []cluster.Holding
	on    *mountEntry // the mount that has it; nil: none is known to
	err   error       // why that is not known
}

// blockDevices are those of this system that can be members. A device that
// another one is made of (dm, md, a path of multipath) is not: its content is that
// one's.
func blockDevices(root string) ([]string, error) {
	class := filepath.Join(root, "sys/class/block")
	entries, err := os.ReadDir(class)
	if err != nil {
		return nil, fmt.Errorf("which devices there are is not known: %w; name them", err)
	}
	var list []string
	for _, e := range entries {
		size, err := os.ReadFile(filepath.Join(class, e.Name(), "size"))
		if err != nil || strings.TrimSpace(string(size)) == "0" {
			continue // no medium
		}
		if above, err := os.ReadDir(filepath.Join(class, e.Name(), "holders")); err == nil && len(above) > 0 {
			continue
		}
		// A slash in the name of a device is an exclamation mark there.
		list = append(list, filepath.Join(root, "dev", strings.ReplaceAll(e.Name(), "!", "/")))
	}
	return list, nil
}

// filesIn are the files and block devices that words name: themselves, and those
// directly in a directory.
func filesIn(words []string) (list []string, err error) {
	for _, w := range words {
		st, err := os.Stat(w)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("there is no device, file or directory %s", w)
		case err != nil:
			return nil, err
		}
		if !st.IsDir() {
			list = append(list, w)
			continue
		}
		entries, err := os.ReadDir(w)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			path := filepath.Join(w, e.Name())
			if st, err := os.Stat(path); err == nil && (st.Mode().IsRegular() || isBlock(st.Mode())) {
				list = append(list, path)
			}
		}
	}
	return eachOnce(list), nil
}

// eachOnce leaves out what is in the list by another name: a link to a file or device
// before it, and the file under a loop device. Whoever has that device uses the file.
func eachOnce(paths []string) []string {
	infos := make([]os.FileInfo, len(paths))
	var under []os.FileInfo
	system := layout.System{Root: "/"}
	for i, path := range paths {
		infos[i], _ = os.Stat(path)
		if st := infos[i]; st == nil || !isBlock(st.Mode()) {
			continue
		}
		if file := system.UnderLoop(infos[i].Sys().(*syscall.Stat_t).Rdev); file != "" {
			if st, err := os.Stat(file); err == nil {
				under = append(under, st)
			}
		}
	}
	var list []string
	for i, path := range paths {
		same := func(o os.FileInfo) bool { return o != nil && infos[i] != nil && sameMedium(o, infos[i]) }
		if !slices.ContainsFunc(infos[:i], same) && !slices.ContainsFunc(under, same) {
			list = append(list, path)
		}
	}
	return list
}

// sameMedium reports whether two names are of one file, or nodes of one block device.
func sameMedium(a, b os.FileInfo) bool {
	if isBlock(a.Mode()) && isBlock(b.Mode()) {
		return a.Sys().(*syscall.Stat_t).Rdev == b.Sys().(*syscall.Stat_t).Rdev
	}
	return os.SameFile(a, b)
}

func isBlock(m fs.FileMode) bool { return m&fs.ModeDevice != 0 && m&fs.ModeCharDevice == 0 }

// scan looks at paths and returns the volumes that are there, complete ones
// opened, and what could not be read.
func scan(ctx context.Context, paths []string) (list []foundMember, unread []error) {
	var devs []foundDevice
	for i, d := range atOnce(ctx, paths, lookAt) {
		switch {
		case d == nil:
			unread = append(unread, silence(paths[i]))
		case d.hdr != nil:
			devs = append(devs, *d)
		case d.err != nil && !errors.Is(d.err, fs.ErrNotExist): // in a container most are not
			unread = append(unread, d.err)
		}
	}
	sets := volumesOn(devs)
	for i, s := range atOnce(ctx, sets, foundMember.look) {
		if s == nil {
			unread = append(unread, silence(sets[i].name))
		} else {
			list = append(list, *s)
		}
	}
	slices.SortFunc(list, func(a, b foundMember) int { return compareNames(a.name, b.name) })
	return list, unread
}

func silence(name string) error { return fmt.Errorf("%s: no answer for %v", name, scanLimit) }

// atOnce runs fn on all items side by side, and returns the answers that are there
// in time, nil for the others: one device that hangs is not to hide the rest.
func atOnce[T, R any](ctx context.Context, items []T, fn func(T, context.Context) R) []*R {
	type answer struct {
		of int
		is R
	}
	ctx, cancel := context.WithTimeout(ctx, scanLimit)
	defer cancel()
	answers := make(chan answer, len(items))
	for i, item := range items {
		go func() { answers <- answer{i, fn(item, ctx)} }()
	}
	list := make([]*R, len(items))
	for range items {
		select {
		case a := <-answers:
			list[a.of] = &a.is
		case <-ctx.Done():
			return list
		}
	}
	return list
}

// lookAt reads the header of what may be a volume.
func lookAt(path string, _ context.Context) foundDevice {
	d := foundDevice{path: path}
	// A drive without a medium does not answer an open that waits for one.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		d.err = err
		return d
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		d.err = err
		return d
	}
	d.hdr, err = chain.Header(peeked{f: f, size: size})
	if !errors.Is(err, ondisk.ErrNotHammer2) {
		d.err = err
	}
	return d
}

// peeked reads a device without the lock of those who use it: most of what is
// looked at is none of ours, and nobody is to be kept from it.
type peeked struct {
	ondisk.Device // nothing else is asked of it
	f             *os.File
	size          int64
}

func (p peeked) ReadAt(b []byte, off int64) (int, error) { return p.f.ReadAt(b, off) }
func (p peeked) Size() int64                             { return p.size }
func (p peeked) Name() string                            { return p.f.Name() }

// volumesOn puts devices together that are one volume.
func volumesOn(devs []foundDevice) (sets []foundMember) {
	of := make(map[ondisk.UUID][]foundDevice)
	var order []ondisk.UUID
	for _, d := range devs {
		if of[d.hdr.Fsid] == nil {
			order = append(order, d.hdr.Fsid)
		}
		of[d.hdr.Fsid] = append(of[d.hdr.Fsid], d)
	}
	for _, id := range order {
		sets = append(sets, setsOf(of[id])...)
	}
	return sets
}

// setsOf are the volumes that devices of one id make: one, or as many copies of
// it as there are where it has one device.
func setsOf(devs []foundDevice) (sets []foundMember) {
	count := 1
	var newest ondisk.Tid
	for _, d := range devs { // the first says how many there are
		if d.hdr.VoluID == 0 && d.hdr.MirrorTid >= newest {
			newest, count = d.hdr.MirrorTid, max(1, int(d.hdr.NVolumes))
		}
	}
	if count == 1 {
		for _, d := range devs {
			if d.hdr.VoluID == 0 {
				sets = append(sets, found([]string{d.path}))
			}
		}
		if sets != nil {
			return sets
		}
		count = max(2, int(devs[0].hdr.NVolumes)) // the first is not here
	}
	paths := make([]string, count)
	var here []string
	var err error
	for _, d := range devs {
		id := int(d.hdr.VoluID)
		switch {
		case id >= count:
			continue // was to be added, and was not
		case paths[id] != "":
			err = fmt.Errorf("%s and %s are copies of one device: leave one of them out, and name the members", paths[id], d.path)
		}
		paths[id], here = d.path, append(here, d.path)
	}
	for id, p := range paths {
		if p == "" && err == nil {
			err = fmt.Errorf("device %d of %d of this member is not here", id+1, count)
		}
	}
	if err == nil {
		return []foundMember{found(paths)}
	}
	m := found(here)
	m.err = err
	return []foundMember{m}
}

// found is the member that lies at paths, named as sources name it.
func found(paths []string) foundMember {
	m := foundMember{member: member{paths: paths}}
	var names []string
	for _, p := range paths {
		names = append(names, escapeName(p))
	}
	m.name = strings.Join(names, ":")
	return m
}

// escapeName is the inverse of what parseSource does with a path.
func escapeName(path string) string {
	text := strings.ReplaceAll(memberWord(path), "@", `\@`)
	if strings.HasPrefix(text, cachePrefix) || strings.HasPrefix(text, fstabPrefix) {
		text = `\` + text
	}
	return text
}

// look opens the volume and lists what is on it.
func (m foundMember) look(ctx context.Context) foundMember {
	if m.err != nil {
		return m
	}
	devs, err := m.open(true)
	switch {
	case errors.Is(err, filedev.ErrInUse):
		if m.on = m.mounted(ctx); m.on == nil {
			m.err = err
		}
	case err != nil:
		m.err = err
	default:
		if m.holds, err = cluster.Survey(ctx, devs); err != nil {
			m.err = explain(err)
		}
	}
	return m
}
