package fs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

var dataCases = []posixCase{
	{"sizes around the inline limit and blocks", func(t *testing.T, dir string) {
		for _, n := range []int{0, 1, 511, 512, 513, 4096, 65535, 65536, 65537, 300000} {
			p := filepath.Join(dir, fmt.Sprint(n))
			want := strings.Repeat("abcdefg", n/7+1)[:n]
			write(t, p, want)
			wantContent(t, p, want)
			wantEqual(t, "size", stat(t, p).Size, int64(n))
		}
	}},
	{"grow from inline", func(t *testing.T, dir string) {
		p := filepath.Join(dir, "f")
		write(t, p, "start")
		f, err := os.OpenFile(p, os.O_RDWR, 0)
		must(t, err)
		defer f.Close()
		_, err = f.WriteAt([]byte("end"), 100000)
		must(t, err)
		want := "start" + strings.Repeat("\x00", 99995) + "end"
		wantContent(t, p, want)
		must(t, f.Truncate(3))
		must(t, f.Truncate(10))
		wantContent(t, p, "sta\x00\x00\x00\x00\x00\x00\x00")
	}},
	{"append", func(t *testing.T, dir string) {
		p := filepath.Join(dir, "f")
		var want string
		for i := range 300 {
			f, err := os.OpenFile(p, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
			must(t, err)
			s := fmt.Sprintf("line %d\n", i)
			_, err = f.WriteString(s)
			must(t, err)
			must(t, f.Close())
			want += s
		}
		wantContent(t, p, want)
	}},
	{"truncate to zero and back", func(t *testing.T, dir string) {
		p := filepath.Join(dir, "f")
		write(t, p, strings.Repeat("x", 200000))
		must(t, os.Truncate(p, 100000))
		must(t, os.Truncate(p, 200000))
		wantContent(t, p, strings.Repeat("x", 100000)+strings.Repeat("\x00", 100000))
		must(t, os.Truncate(p, 0))
		wantContent(t, p, "")
		must(t, os.Truncate(p, 600))
		wantContent(t, p, strings.Repeat("\x00", 600))
		wantErr(t, os.Truncate(dir, 0), syscall.EISDIR)
	}},
	{"mmap", func(t *testing.T, dir string) {
		p := filepath.Join(dir, "f")
		write(t, p, strings.Repeat("m", 10000))
		f, err := os.OpenFile(p, os.O_RDWR, 0)
		must(t, err)
		m, err := unix.Mmap(int(f.Fd()), 0, 10000, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		must(t, err)
		wantEqual(t, "first byte", m[0], 'm')
		copy(m[5000:], "mapped")
		must(t, unix.Msync(m, unix.MS_SYNC))
		got := make([]byte, 6)
		_, err = f.ReadAt(got, 5000)
		must(t, err)
		wantEqual(t, "read behind mmap", string(got), "mapped")
		copy(m[6000:], "later")
		must(t, unix.Munmap(m))
		must(t, f.Close())
		want := []byte(strings.Repeat("m", 10000))
		copy(want[5000:], "mapped")
		copy(want[6000:], "later")
		wantContent(t, p, string(want))
	}},
	{"mapped before it is immutable", func(t *testing.T, dir string) {
		for _, flag := range []int{fsImmutable, fsAppend} {
			p := filepath.Join(dir, "f")
			write(t, p, strings.Repeat("m", 10000))
			f, err := os.OpenFile(p, os.O_RDWR, 0)
			must(t, err)
			m, err := unix.Mmap(int(f.Fd()), 0, 10000, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			must(t, err)
			copy(m, "mapped")
			was, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
			must(t, err)
			err = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, was|flag)
			if errors.Is(err, syscall.EPERM) {
				t.Skip("only root may make a file immutable")
			}
			must(t, err)
			synced := unix.Msync(m, unix.MS_SYNC)
			must(t, unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, was))
			must(t, synced)
			must(t, unix.Munmap(m))
			must(t, f.Close())
			wantContent(t, p, "mapped"+strings.Repeat("m", 10000-6))
			must(t, os.Remove(p))
		}
	}},
	{"direct I/O", func(t *testing.T, dir string) {
		p := filepath.Join(dir, "f")
		f, err := os.OpenFile(p, os.O_RDWR|os.O_CREATE|unix.O_DIRECT, 0o644)
		must(t, err)
		defer f.Close()
		m, err := unix.Mmap(-1, 0, 131072, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
		must(t, err)
		defer func() { must(t, unix.Munmap(m)) }()
		for i := range m {
			m[i] = byte(i / 1000)
		}
		_, err = f.WriteAt(m, 65536)
		must(t, err)
		want := bytes.Clone(m)
		clear(m)
		_, err = f.ReadAt(m, 65536)
		must(t, err)
		if !bytes.Equal(m, want) {
			t.Error("read something else")
		}
	}},
	{"copy_file_range", func(t *testing.T, dir string) {
		src := filepath.Join(dir, "src")
		want := strings.Repeat("0123456789", 250000)
		write(t, src, want)
		in, err := os.Open(src)
		must(t, err)
		defer in.Close()
		out, err := os.Create(filepath.Join(dir, "dst"))
		must(t, err)
		defer out.Close()
		var from, to int64 = 5, 3
		for from < int64(len(want)) {
			n, err := unix.CopyFileRange(int(in.Fd()), &from, int(out.Fd()), &to, len(want), 0)
			must(t, err)
			if n == 0 {
				t.Fatal("nothing copied")
			}
		}
		wantContent(t, filepath.Join(dir, "dst"), "\x00\x00\x00"+want[5:])
	}},
	{"fsync", func(t *testing.T, dir string) {
		p := filepath.Join(dir, "f")
		f, err := os.Create(p)
		must(t, err)
		defer f.Close()
		_, err = f.WriteString("durable")
		must(t, err)
		must(t, f.Sync())
		must(t, unix.Fdatasync(int(f.Fd())))
		d, err := os.Open(dir)
		must(t, err)
		defer d.Close()
		must(t, d.Sync())
		must(t, unix.Syncfs(int(d.Fd())))
	}},
	{"too large", func(t *testing.T, dir string) {
		f, err := os.Create(filepath.Join(dir, "f"))
		must(t, err)
		defer f.Close()
		err = f.Truncate(-1)
		wantErr(t, err, syscall.EINVAL)
		_, err = f.ReadAt(make([]byte, 10), 1<<40)
		wantEqual(t, "read far away", err, io.EOF)
	}},
	{"random operations", func(t *testing.T, dir string) {
		for seed := range uint64(4) {
			exercise(t, filepath.Join(dir, fmt.Sprint(seed)), seed, 400)
		}
	}},
}

// exercise does random things to a file and to a model of it.
func exercise(t *testing.T, path string, seed uint64, steps int) {
	t.Helper()
	const limit = 300000
	rnd := rand.New(rand.NewPCG(seed, 1))
	if seed%2 == 1 { // small files, around the inline limit
		rnd = rand.New(rand.NewPCG(seed, 2))
	}
	scale := limit
	if seed%2 == 1 {
		scale = 1500
	}
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	var model []byte
	grow := func(n int) {
		if n > len(model) {
			model = append(model, make([]byte, n-len(model))...)
		}
	}
	var what string
	for step := range steps {
		off, n := rnd.IntN(scale), rnd.IntN(scale/4)+1
		switch rnd.IntN(8) {
		case 0, 1, 2:
			what = fmt.Sprintf("write %d+%d", off, n)
			p := make([]byte, n)
			for i := range p {
				p[i] = byte(rnd.IntN(256))
			}
			_, err = f.WriteAt(p, int64(off))
			grow(off + n)
			copy(model[off:], p)
		case 3:
			what = fmt.Sprintf("truncate %d", off)
			err = f.Truncate(int64(off))
			grow(off)
			model = model[:off:off]
		case 4:
			what = fmt.Sprintf("punch %d+%d", off, n)
			err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(off), int64(n))
			clear(model[min(off, len(model)):min(off+n, len(model))])
		case 5:
			what = fmt.Sprintf("zero %d+%d", off, n)
			err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_ZERO_RANGE, int64(off), int64(n))
			grow(off + n)
			clear(model[off : off+n])
		case 6:
			what = fmt.Sprintf("allocate %d+%d", off, n)
			err = unix.Fallocate(int(f.Fd()), 0, int64(off), int64(n))
			grow(off + n)
		case 7:
			what = fmt.Sprintf("map %d+%d", off, n)
			err = mapWrite(f, model, off, n, rnd)
		}
		if err != nil {
			t.Fatalf("seed %d step %d: %s: %v", seed, step, what, err)
		}
		got, err := os.ReadFile(path)
		must(t, err)
		if !bytes.Equal(got, model) {
			t.Fatalf("seed %d step %d: after %s: %d bytes differ from the model's %d", seed, step, what, len(got), len(model))
		}
	}
}

// mapWrite changes up to n bytes at off through a mapping.
func mapWrite(f *os.File, model []byte, off, n int, rnd *rand.Rand) error {
	if off >= len(model) {
		return nil
	}
	n = min(n, len(model)-off)
	m, err := unix.Mmap(int(f.Fd()), 0, len(model), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	for i := off; i < off+n; i++ {
		m[i] = byte(rnd.IntN(256))
		model[i] = m[i]
	}
	return unix.Munmap(m)
}

var holeCases = []posixCase{
	{"holes", func(t *testing.T, dir string) {
		f, err := os.Create(filepath.Join(dir, "f"))
		must(t, err)
		defer f.Close()
		block := bytes.Repeat([]byte("d"), 65536)
		_, err = f.WriteAt(block, 4*65536)
		must(t, err)
		must(t, f.Truncate(10*65536))
		for _, c := range []struct {
			whence    int
			off, want int64
		}{
			{unix.SEEK_DATA, 0, 4 * 65536},
			{unix.SEEK_HOLE, 0, 0},
			{unix.SEEK_HOLE, 4 * 65536, 5 * 65536},
			{unix.SEEK_DATA, 4*65536 + 7, 4*65536 + 7},
			{unix.SEEK_HOLE, 6 * 65536, 6 * 65536},
		} {
			got, err := f.Seek(c.off, c.whence)
			must(t, err)
			wantEqual(t, fmt.Sprintf("seek %d from %d", c.whence, c.off), got, c.want)
		}
		for _, off := range []int64{5 * 65536, 10 * 65536} {
			_, err = f.Seek(off, unix.SEEK_DATA)
			wantErr(t, err, syscall.ENXIO)
		}
		_, err = f.Seek(10*65536, unix.SEEK_HOLE)
		wantErr(t, err, syscall.ENXIO)
	}},
	{"holes of small files", func(t *testing.T, dir string) {
		p := filepath.Join(dir, "f")
		write(t, p, "small")
		f, err := os.Open(p)
		must(t, err)
		defer f.Close()
		at, err := f.Seek(2, unix.SEEK_DATA)
		must(t, err)
		wantEqual(t, "data", at, 2)
		at, err = f.Seek(0, unix.SEEK_HOLE)
		must(t, err)
		wantEqual(t, "hole", at, 5)
	}},
	{"fallocate", func(t *testing.T, dir string) {
		p := filepath.Join(dir, "f")
		write(t, p, strings.Repeat("x", 200000))
		f, err := os.OpenFile(p, os.O_RDWR, 0)
		must(t, err)
		defer f.Close()
		must(t, unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, 400000))
		wantEqual(t, "size", stat(t, p).Size, 200000)
		must(t, unix.Fallocate(int(f.Fd()), 0, 0, 300000))
		wantEqual(t, "size", stat(t, p).Size, 300000)
		must(t, unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 10, 199980))
		wantContent(t, p, "xxxxxxxxxx"+strings.Repeat("\x00", 199980)+"xxxxxxxxxx"+strings.Repeat("\x00", 100000))
		wantErr(t, unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE, 0, 10), syscall.EOPNOTSUPP)
	}},
}
