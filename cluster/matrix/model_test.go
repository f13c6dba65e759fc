package matrix

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/anvilfs/anvilfs/fs"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A model knows what the filesystem may hold: one state for each call, of
// which those from acked on may be what a crash leaves.
type model struct {
	states []map[string]string // path to content; a directory's is "dir"
	acked  int                 // index of the state that the last sync covers
}

func (m *model) last() map[string]string { return m.states[len(m.states)-1] }

// next adds the state that a call leads to.
func (m *model) next(change func(map[string]string)) {
	s := maps.Clone(m.last())
	change(s)
	m.states = append(m.states, s)
}

// synced notes that all calls up to state i are durable.
func (m *model) synced(i int) { m.acked = max(m.acked, i) }

// settle makes found the only state, if it is one that may be.
func (m *model) settle(found map[string]string) error {
	for i := len(m.states) - 1; i >= m.acked; i-- {
		if maps.Equal(m.states[i], found) {
			m.states, m.acked = []map[string]string{found}, 0
			return nil
		}
	}
	return fmt.Errorf("not one of the %d states that may be: %s", len(m.states)-m.acked, diffMaps(m.last(), found))
}

// diffMaps says how got differs from want.
func diffMaps(want, got map[string]string) string {
	all := maps.Clone(want)
	maps.Copy(all, got)
	out := ""
	for _, k := range slices.Sorted(maps.Keys(all)) {
		w, inWant := want[k]
		g, inGot := got[k]
		switch {
		case !inWant:
			out += fmt.Sprintf("%s should not be there; ", k)
		case !inGot:
			out += fmt.Sprintf("%s is missing; ", k)
		case w != g:
			out += fmt.Sprintf("%s has other content (%d bytes, want %d); ", k, len(g), len(w))
		}
	}
	return out
}

// A caller makes random calls of a filesystem and tells the model.
type caller struct {
	fs    *fs.FS
	model *model
	rng   *rand.Rand
	names int // how many files it plays with
}

// content is random: it does not compress, so blocks are what they seem.
func content(rng *rand.Rand, n int) string {
	b := make([]byte, 0, n+8)
	for len(b) < n {
		b = binary.LittleEndian.AppendUint64(b, rng.Uint64())
	}
	return string(b[:n])
}

// call makes one call, which changes something. A full filesystem refuses it as a whole.
func (c *caller) call(ctx context.Context) error {
	n := c.rng.IntN(c.names)
	name := fmt.Sprintf("f%d", n)
	have, there := c.model.last()["/"+name]
	switch k := c.rng.IntN(8); {
	case !there:
		return c.create(ctx, name)
	case k == 0:
		return c.do(func(s map[string]string) { delete(s, "/"+name) },
			func() error { return c.fs.Unlink(ctx, ondisk.InumRoot, name) })
	case k == 1:
		// Not onto itself: a call that changes nothing waits for nobody.
		to := fmt.Sprintf("f%d", c.rng.IntN(c.names))
		if to == name { // nothing would be changed, and a sync after it proves nothing
			to = fmt.Sprintf("f%d", (n+1)%c.names)
		}
		return c.do(func(s map[string]string) { v := s["/"+name]; delete(s, "/"+name); s["/"+to] = v },
			func() error { return c.fs.Rename(ctx, ondisk.InumRoot, name, ondisk.InumRoot, to, 0) })
	case k < 4:
		return c.write(ctx, name, len(have), content(c.rng, 1+c.rng.IntN(5000)))
	}
	return c.write(ctx, name, c.rng.IntN(len(have)+1), content(c.rng, 1+c.rng.IntN(90_000)))
}

func (c *caller) do(change func(map[string]string), call func() error) error {
	before := c.model.last()
	c.model.next(change)
	if maps.Equal(before, c.model.last()) {
		return errors.New("a call that changes nothing: a sync after it proves nothing")
	}
	err := call()
	if errors.Is(err, errFull) {
		c.model.states = c.model.states[:len(c.model.states)-1]
	}
	return err
}

func (c *caller) create(ctx context.Context, name string) error {
	return c.do(func(s map[string]string) { s["/"+name] = "" }, func() error {
		rec, err := c.fs.Create(ctx, ondisk.InumRoot, name, fs.NewNode{Type: ondisk.ObjFile, Mode: 0o644})
		if err == nil {
			c.fs.Forget(rec.Meta.Inum, 1)
		}
		return err
	})
}

func (c *caller) write(ctx context.Context, name string, off int, data string) error {
	change := func(s map[string]string) {
		b := []byte(s["/"+name])
		if grow := off + len(data) - len(b); grow > 0 {
			b = append(b, make([]byte, grow)...)
		}
		copy(b[off:], data)
		s["/"+name] = string(b)
	}
	return c.do(change, func() error {
		rec, ok, err := c.fs.Lookup(ctx, ondisk.InumRoot, name)
		if err != nil || !ok {
			return errors.Join(err, missing(ok, name))
		}
		defer c.fs.Forget(rec.Meta.Inum, 1)
		_, err = c.fs.Write(ctx, rec.Meta.Inum, uint64(off), []byte(data), false)
		return err
	})
}

func missing(ok bool, name string) error {
	if ok {
		return nil
	}
	return fmt.Errorf("%s is gone", name)
}

// readAll reads the whole filesystem through the mount.
func readAll(ctx context.Context, f *fs.FS) (map[string]string, error) {
	out := make(map[string]string)
	return out, readDir(ctx, f, ondisk.InumRoot, "", out)
}

func readDir(ctx context.Context, f *fs.FS, dir uint64, path string, out map[string]string) error {
	var list []ondisk.Dirent
	err := f.ReadDir(ctx, dir, 0, 1<<20, func(_ uint64, d *ondisk.Dirent) bool {
		if d.Name != "." && d.Name != ".." {
			list = append(list, *d)
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("readdir %s/: %w", path, err)
	}
	for _, d := range list {
		rec, ok, err := f.Lookup(ctx, dir, d.Name)
		if err != nil {
			return fmt.Errorf("lookup %s/%s: %w", path, d.Name, err)
		}
		if !ok {
			continue // as if it had been removed before: then it is missed
		}
		if d.Type == ondisk.ObjDir {
			out[path+"/"+d.Name] = "dir"
			err = readDir(ctx, f, d.Inum, path+"/"+d.Name, out)
		} else {
			buf := make([]byte, rec.Meta.Size)
			if _, err = f.Read(ctx, d.Inum, 0, buf); err != nil {
				err = fmt.Errorf("read %s/%s: %w", path, d.Name, err)
			}
			out[path+"/"+d.Name] = string(buf)
		}
		f.Forget(d.Inum, 1)
		if err != nil {
			return err
		}
	}
	return nil
}
