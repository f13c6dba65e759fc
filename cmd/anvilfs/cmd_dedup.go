package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/anvilfs/anvilfs/fs"
	"github.com/anvilfs/anvilfs/ondisk/rawjson"
)

func dedupCommand() *cobra.Command {
	d := new(dedupRequest)
	var minSize string
	c := &cobra.Command{
		Use:   "dedup MNT [PATH...]",
		Short: "Find equal blocks, and let their files share one",
		Long: `Blocks that files have on media are compared, by their check codes first and
then byte by byte; of equal ones only one is kept. Contents and times of the files
stay as they are, and they may be in use: what changes meanwhile is left alone.
With PATHs only files there are looked at, else all of the filesystem.

Blocks are equal only if they are stored alike, with the same compression and
check code. What a snapshot holds stays in use until the snapshot goes.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			n, err := parseSize(minSize)
			if err != nil {
				return usageError("--min-size: %v", err)
			}
			d.opts.MinSize = uint64(n)
			return d.run(c, args[0], args[1:])
		},
	}
	c.Flags().BoolVar(&d.opts.DryRun, "dry-run", false, "change nothing: say what seems to be equal by its check codes")
	c.Flags().StringVar(&minSize, "min-size", "64k", "look at files of at least this size")
	c.Flags().BoolVar(&d.asJSON, "json", false, "print JSON")
	c.Flags().IntVarP(&d.tranquility, "tranquility", "t", 1,
		"0 to 10: how many times as long as it works it rests, for the sake of others")
	return c
}

// A dedupRequest is one call of the command.
type dedupRequest struct {
	opts        fs.DedupOptions
	asJSON      bool
	tranquility int
}

// run has the mount do it step by step, so that it can be watched, slowed and
// interrupted.
func (d *dedupRequest) run(c *cobra.Command, dir string, paths []string) error {
	if err := checkTranquility(d.tranquility); err != nil {
		return err
	}
	ctx := c.Context()
	if len(paths) > 0 {
		var err error
		if d.opts.Inums, err = filesBelow(ctx, dir, paths, d.opts.MinSize); err != nil {
			return err
		}
		if len(d.opts.Inums) == 0 {
			d.opts.Inums = []uint64{0} // none, not all
		}
	}
	began := time.Now()
	if _, err := tell(ctx, dir, "sync"); err != nil { // what is in memory only is not compared
		return err
	}
	rep, err := d.begin(ctx, dir)
	if err != nil {
		return err
	}
	show := func() {}
	if f, ok := c.ErrOrStderr().(*os.File); ok && onTerminal(f) {
		show = func() {
			fmt.Fprintf(f, "\r\033[Kpass %d of %d: %d files, %s; %s merged ", rep.Pass, rep.Passes, rep.Files, human(rep.Bytes), human(rep.Saved))
		}
		defer fmt.Fprint(f, "\r\033[K")
	}
	for !rep.Done {
		stepped := time.Now()
		if rep, err = dedupAsk(ctx, dir, "step"); err != nil {
			_, _ = dedupAsk(context.WithoutCancel(ctx), dir, "stop")
			return err
		}
		show()
		select {
		case <-time.After(time.Duration(d.tranquility) * time.Since(stepped)):
		case <-ctx.Done():
		}
	}
	if rep.Merged > 0 && !rep.DryRun {
		for _, verb := range []string{"sync", "bulkfree"} { // bulkfree finds what had several places before
			if _, err := tell(ctx, dir, verb); err != nil {
				return err
			}
		}
	}
	return d.print(c.OutOrStdout(), &rep, time.Since(began))
}

// inumsPerLine keeps commands below what the control file takes.
const inumsPerLine = 2000

// begin starts the work in the mount.
func (d *dedupRequest) begin(ctx context.Context, dir string) (fs.DedupReport, error) {
	words := []string{"start", strconv.FormatUint(d.opts.MinSize, 10)}
	if d.opts.DryRun {
		words = append(words, "--dry-run")
	}
	if d.opts.Inums == nil {
		return dedupAsk(ctx, dir, append(words, "--all")...)
	}
	rep, err := dedupAsk(ctx, dir, words...)
	for left := d.opts.Inums; err == nil && len(left) > 0; {
		line := []string{"add"}
		for _, inum := range left[:min(len(left), inumsPerLine)] {
			line = append(line, strconv.FormatUint(inum, 10))
		}
		left = left[len(line)-1:]
		rep, err = dedupAsk(ctx, dir, line...)
	}
	return rep, err
}

func (d *dedupRequest) print(w io.Writer, rep *fs.DedupReport, took time.Duration) error {
	if d.asJSON {
		return rawjson.Write(w, struct {
			OutputVersion int `json:"output_version"`
			*fs.DedupReport
		}{careVersion, rep}, "  ")
	}
	fmt.Fprintf(w, "looked at  %d files, %s in %d blocks, in %v\n", rep.Files, human(rep.Bytes), rep.Blocks, took.Round(10*time.Millisecond))
	fmt.Fprintf(w, "shared     %s before\n", human(rep.Already))
	verb := "merged    "
	if rep.DryRun {
		verb = "equal     "
	}
	fmt.Fprintf(w, "%s %s in %d blocks\n", verb, human(rep.Saved), rep.Merged)
	if rep.Changed > 0 {
		fmt.Fprintf(w, "left       %d blocks that changed, or only seemed to be equal\n", rep.Changed)
	}
	return nil
}

// dedupAsk is one request to the mount.
func dedupAsk(ctx context.Context, dir string, words ...string) (rep fs.DedupReport, err error) {
	var reply bytes.Buffer
	if err = ask(ctx, dir, &reply, append([]string{"dedup"}, words...)...); err == nil {
		err = rawjson.Unmarshal(reply.Bytes(), &rep)
	}
	return rep, err
}

// filesBelow lists the inodes of the regular files at and below paths, which
// must belong to the filesystem at dir.
func filesBelow(ctx context.Context, dir string, paths []string, minSize uint64) (inums []uint64, err error) {
	dev, _, err := inodeOf(dir)
	if err != nil {
		return nil, err
	}
	seen := make(map[uint64]bool)
	for _, path := range paths {
		err := filepath.WalkDir(path, func(path string, e iofs.DirEntry, err error) error {
			if err != nil || ctx.Err() != nil {
				return errors.Join(err, ctx.Err())
			}
			if !e.IsDir() && !e.Type().IsRegular() {
				return nil
			}
			on, st, err := inodeOf(path)
			switch {
			case err != nil:
				return err
			case on != dev:
				return fmt.Errorf("%s is not in the filesystem at %s", path, dir)
			case e.Type().IsRegular() && uint64(st.Size) >= minSize && !seen[st.Ino]:
				seen[st.Ino] = true
				inums = append(inums, st.Ino)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return inums, nil
}

func inodeOf(path string) (dev uint64, st *syscall.Stat_t, err error) {
	info, err := os.Lstat(path)
	if err != nil {
		return 0, nil, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, nil, fmt.Errorf("%s: no inode number", path)
	}
	return uint64(st.Dev), st, nil
}

// dedupStep is how long a request to the mount works.
const dedupStep = 200 * time.Millisecond

// A merging is the dedup that a mount is doing. There is one at most: it has an
// index in memory, and nobody gains by two.
type merging struct {
	files *fs.FS

	mu   sync.Mutex
	opts fs.DedupOptions
	job  *fs.Dedup // nil: begins with the first step
	used time.Time // zero: there is none
}

// abandoned is after how long without a step another dedup may begin.
const abandoned = time.Minute

// command carries out a word of the dedup command.
func (m *merging) command(ctx context.Context, words []string, w io.Writer) error {
	if m == nil || len(words) == 0 {
		return errors.New("dedup takes start, add, step or stop, on a mount that is written")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	verb, rest := words[0], words[1:]
	if verb != "start" && m.used.IsZero() {
		return errors.New("no dedup was begun")
	}
	var err error
	switch verb {
	case "start":
		if time.Since(m.used) < abandoned {
			return errors.New("another dedup is running on this mount")
		}
		m.job, m.opts = nil, fs.DedupOptions{Inums: []uint64{}}
		err = m.options(rest)
	case "add":
		err = m.add(rest)
	case "step":
		err = m.step(ctx)
	case "stop":
		m.job, m.used = nil, time.Time{}
		return rawjson.Write(w, fs.DedupReport{}, "")
	default:
		err = fmt.Errorf("dedup has no word %q", verb)
	}
	if err != nil {
		return err
	}
	m.used = time.Now()
	var rep fs.DedupReport
	if m.job != nil {
		rep = m.job.Report()
	}
	if rep.Done {
		m.job, m.used = nil, time.Time{}
	}
	return rawjson.Write(w, rep, "")
}

func (m *merging) options(words []string) (err error) {
	for i, word := range words {
		switch {
		case i == 0:
			m.opts.MinSize, err = strconv.ParseUint(word, 10, 64)
		case word == "--dry-run":
			m.opts.DryRun = true
		case word == "--all":
			m.opts.Inums = nil
		default:
			err = fmt.Errorf("dedup start: %q is not an option", word)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (m *merging) add(words []string) error {
	if m.job != nil {
		return errors.New("dedup has begun: files are added before the first step")
	}
	for _, word := range words {
		inum, err := strconv.ParseUint(word, 10, 64)
		if err != nil {
			return fmt.Errorf("dedup add: %w", err)
		}
		m.opts.Inums = append(m.opts.Inums, inum)
	}
	return nil
}

func (m *merging) step(ctx context.Context) (err error) {
	if m.job == nil {
		if m.job, err = m.files.NewDedup(m.opts); err != nil {
			return err
		}
	}
	done, err := m.files.Use()
	if err != nil {
		return err
	}
	defer done()
	for until := time.Now().Add(dedupStep); time.Now().Before(until); {
		if more, err := m.job.Step(ctx); err != nil || !more {
			return err
		}
	}
	return nil
}
