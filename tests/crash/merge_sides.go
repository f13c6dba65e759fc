package crash

import (
	"fmt"
	"strings"

	"github.com/anvilfs/anvilfs/fs"
	"github.com/anvilfs/anvilfs/ondisk"
)

// base is what both sides have when they part: files that one side will change,
// both, or none.
func (m *merging) base() error {
	if err := m.mendNodes(); err != nil {
		return err
	}
	err := m.script("write same base\nwrite one base\nwrite two base\nwrite both base\nwrite both2 base\nwrite gone base\nwrite kept base\n" +
		"mkdir d\nwrite d/x base\nmkdir tree\nwrite tree/a base\nmkdir tree/deep\nfill tree/deep/b 70000\nmkdir account\nfill account/f 70000")
	if err == nil {
		err = m.put("large", m.large[0])
	}
	if err == nil {
		err = m.sync()
	}
	if err == nil {
		err = m.pool.NodeOffline(m.ctx, "m1")
	}
	return err
}

// ours is what the branch does.
func (m *merging) ours() error {
	err := m.script("write one ours\nwrite both ours\nwrite both2 ours\nrm gone\nrm kept\nmv d/x d/y\nmkdir new\nfill new/f 100000\nwrite new/g ours\n" +
		"mv tree account/tree\nfill account/n 150000\nfill account/f 80000")
	if err == nil {
		err = m.put("large", m.large[1])
	}
	return err
}

// others is what the cluster does meanwhile. It has an account then that the
// branch knows nothing of, and moves a tree to.
func (m *merging) others() error {
	err := m.script("write two theirs\nwrite both theirs\nwrite both2 theirs\nwrite kept theirs\nwrite more theirs\nwrite account/more theirs")
	if err != nil {
		return err
	}
	inum, err := m.find("account")
	if err == nil {
		err = m.counted(inum, m.f.SetQuota(m.ctx, inum, func(l *fs.Limits) { l.Bytes = 1 << 30 }))
	}
	if err == nil {
		m.theirs, err = m.lines()
	}
	return err
}

// script plays lines.
func (m *merging) script(text string) error {
	for line := range strings.Lines(text) {
		w := strings.Fields(line)
		if err := m.step(w); err != nil {
			return fmt.Errorf("%v: %w", w, err)
		}
	}
	return nil
}

func (m *merging) step(w []string) error {
	dir, name, err := m.up(w[1])
	if err != nil {
		return err
	}
	switch w[0] {
	case "write":
		return m.put(w[1], w[2])
	case "fill":
		n := 0
		if _, err := fmt.Sscan(w[2], &n); err != nil {
			return err
		}
		return m.put(w[1], string(m.bytes(n)))
	case "mkdir":
		_, err := m.f.Create(m.ctx, dir, name, fs.NewNode{Type: ondisk.ObjDir, Mode: 0o755})
		return err
	case "rm":
		return m.f.Unlink(m.ctx, dir, name)
	case "mv":
		to, other, err := m.up(w[2])
		if err != nil {
			return err
		}
		return m.f.Rename(m.ctx, dir, name, to, other, 0)
	}
	return fmt.Errorf("no such step")
}

// put makes content that of a file, which may be new.
func (m *merging) put(path, content string) error {
	dir, name, err := m.up(path)
	if err != nil {
		return err
	}
	d, ok, err := m.f.Find(m.ctx, dir, name)
	if err == nil && !ok {
		var r *fs.Record
		if r, err = m.f.Create(m.ctx, dir, name, fs.NewNode{Type: ondisk.ObjFile, Mode: 0o644}); err == nil {
			d.Inum = r.Meta.Inum
			m.f.Forget(d.Inum, 1)
		}
	}
	if err != nil {
		return err
	}
	size := uint64(len(content))
	if _, err := m.f.Setattr(m.ctx, d.Inum, fs.Change{Size: &size}); err != nil {
		return err
	}
	_, err = m.f.Write(m.ctx, d.Inum, 0, []byte(content), false)
	return err
}

func (m *merging) up(path string) (dir uint64, name string, err error) {
	at, name := split(path)
	dir, err = m.find(at)
	return dir, name, err
}

func (m *merging) find(path string) (uint64, error) {
	at := uint64(ondisk.InumRoot)
	for _, name := range strings.FieldsFunc(path, func(r rune) bool { return r == '/' }) {
		d, ok, err := m.f.Find(m.ctx, at, name)
		if err != nil || !ok {
			return 0, fmt.Errorf("%s: there: %v, %w", path, ok, err)
		}
		at = d.Inum
	}
	return at, nil
}

func (m *merging) read(path string) ([]byte, error) {
	inum, err := m.find(path)
	if err != nil {
		return nil, err
	}
	r, err := m.f.Stat(m.ctx, inum)
	if err != nil {
		return nil, err
	}
	b := make([]byte, r.Meta.Size)
	n, err := m.f.Read(m.ctx, inum, 0, b)
	return b[:n], err
}
