package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func demoCommand() *cobra.Command {
	var once bool
	var dir string
	c := &cobra.Command{
		Use:   "demo",
		Short: "The five-minute tour: real commands, real output, on files in a directory",
		Args:  exactly(0, "no words"),
		RunE: func(c *cobra.Command, _ []string) error {
			d, err := newDemo(c.Context(), c.OutOrStdout(), dir)
			if err != nil {
				return err
			}
			err = d.tour()
			if err == nil && !once {
				d.stay()
			}
			return errors.Join(err, d.close())
		},
	}
	c.Flags().BoolVar(&once, "once", false, "end after the tour instead of staying mounted")
	c.Flags().StringVar(&dir, "dir", "", "work there (default: a new temporary directory, removed at the end)")
	return c
}

// A demo runs the commands that a user would type, and shows them.
type demo struct {
	ctx  context.Context
	out  io.Writer
	self string // this binary
	dir  string // holds a.img b.img c.img mnt alone
	made bool   // dir is ours to remove
	err  error  // the first that failed; what follows is skipped
}

func newDemo(ctx context.Context, out io.Writer, dir string) (*demo, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	d := &demo{ctx: ctx, out: out, self: self, dir: dir}
	if dir == "" {
		if d.dir, err = os.MkdirTemp("", "anvilfs-demo."); err != nil {
			return nil, err
		}
		d.made = true
	}
	for _, sub := range []string{"mnt", "alone"} {
		if err := os.MkdirAll(filepath.Join(d.dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// members are the images of the tour.
var members = []string{"a.img", "b.img", "c.img"}

func (d *demo) tour() error {
	d.say("Three copies, one filesystem. Each image is a complete HAMMER2 volume.")
	d.anvil("newfs", "-L", "HOME", "-s", "512m", "a.img", "b.img", "c.img")
	d.anvil("mount", "a.img,b.img,c.img@HOME", "mnt")
	d.say("Some files.")
	d.sh("mkdir mnt/docs && for i in $(seq 1 2000); do echo \"note $i\" > mnt/docs/note$i; done")
	d.sh("head -c 20M /dev/urandom > mnt/photo && cd mnt && sha256sum photo > photo.sum && ls")
	d.anvil("sync", "mnt")
	d.anvil("status", "mnt")
	d.say("Take one copy away while a program writes, and go on.")
	d.sh("(for i in $(seq 1 3000); do echo \"line $i\" >> mnt/log; done) & sleep 0.1; " +
		quote(d.self) + " node offline mnt b.img; wait; rm mnt/docs/note1*; wc -l mnt/log")
	d.anvil("sync", "mnt")
	d.anvil("status", "mnt")
	d.say("Bring it back: only what changed is copied, while the filesystem stays in use.")
	d.anvil("node", "online", "mnt", "b.img")
	d.anvil("wait", "healthy", "mnt", "--timeout", "1m")
	d.anvil("status", "mnt")
	d.alone()
	d.say("Damage one copy behind its back: what is read is right, and the copy is repaired.")
	if d.err == nil {
		d.err = d.damage()
	}
	d.anvil("mount", "a.img,b.img,c.img@HOME", "mnt")
	d.sh("for i in 1 2 3 4 5 6; do echo 3 > /proc/sys/vm/drop_caches; (cd mnt && sha256sum -c photo.sum) || exit 1; done 2>/dev/null | uniq -c")
	d.anvil("status", "mnt")
	return d.err
}

// alone shows that each copy is a filesystem by itself: checked, mounted
// without the others, and compared with what the three of them showed.
func (d *demo) alone() {
	d.say("Unmount, check every copy, and look at each of them alone.")
	d.sh("cp -a mnt kept")
	d.anvil("umount", "mnt")
	d.anvil(append([]string{"fsck"}, members...)...)
	for _, m := range members {
		d.anvil("mount", m+"@HOME", "alone", "-o", "ro")
		d.sh("diff -r kept alone && echo \"" + m + " is the same\"")
		d.anvil("umount", "alone")
	}
}

// damage overwrites some of the photo's data in one image.
func (d *demo) damage() error {
	img := filepath.Join(d.dir, "a.img")
	f, err := os.OpenFile(img, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	at, n, err := randomRegion(f)
	if err != nil {
		return err
	}
	fmt.Fprintf(d.out, "$ # overwrite %s of a.img at offset %#x\n", human(uint64(n)), at)
	junk := make([]byte, n)
	for i := range junk {
		junk[i] = byte(i * 7)
	}
	if _, err := f.WriteAt(junk, at); err != nil {
		return err
	}
	return f.Sync()
}

// randomRegion finds 256 KiB in the image that hold incompressible data: the
// photo, not tables.
func randomRegion(f *os.File) (at int64, n int, err error) {
	const block = 64 << 10
	buf := make([]byte, block)
	run := 0
	for off := int64(0); ; off += block {
		if _, err := f.ReadAt(buf, off); err != nil {
			return 0, 0, fmt.Errorf("no data of the photo found in %s: %w", f.Name(), err)
		}
		var seen [256]bool
		distinct := 0
		for _, b := range buf[:4096] {
			if !seen[b] {
				seen[b] = true
				distinct++
			}
		}
		if distinct < 250 {
			run = 0
			continue
		}
		if run++; run == 8 {
			return off - 3*block, 4 * block, nil
		}
	}
}

func (d *demo) say(text string) {
	if d.err == nil {
		fmt.Fprintf(d.out, "\n# %s\n", text)
	}
}

// anvil runs a subcommand of this binary.
func (d *demo) anvil(words ...string) {
	d.run("anvilfs "+strings.Join(words, " "), exec.CommandContext(d.ctx, d.self, words...))
}

// sh runs a line of shell.
func (d *demo) sh(line string) {
	d.run(strings.ReplaceAll(line, quote(d.self), "anvilfs"), exec.CommandContext(d.ctx, "sh", "-c", line))
}

func (d *demo) run(shown string, c *exec.Cmd) {
	if d.err != nil {
		return
	}
	fmt.Fprintf(d.out, "$ %s\n", shown)
	c.Dir = d.dir
	c.Stdout, c.Stderr = d.out, d.out
	if err := c.Run(); err != nil {
		d.err = fmt.Errorf("%s: %w", shown, err)
	}
}

// stay keeps the mount until the user interrupts.
func (d *demo) stay() {
	fmt.Fprintf(d.out, "\nStill mounted on %s: try it from another terminal. Interrupt (^C) to end.\n", filepath.Join(d.dir, "mnt"))
	<-d.ctx.Done()
}

// close unmounts what the tour left and removes what it made.
func (d *demo) close() error {
	var errs []error
	list, err := anvilMounts()
	if err != nil {
		return err
	}
	for _, m := range list {
		if !strings.HasPrefix(m.target, d.dir+"/") {
			continue
		}
		for try := 0; ; try++ {
			err := umount(context.Background(), m.target, false)
			if err == nil || try == 20 {
				errs = append(errs, err)
				break
			}
			time.Sleep(100 * time.Millisecond) // a program of the tour may still be ending
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if d.made {
		return os.RemoveAll(d.dir)
	}
	return nil
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
