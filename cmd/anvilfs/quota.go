package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/anvilfs/anvilfs/cmd/advice"
	"github.com/anvilfs/anvilfs/fs"
	"github.com/anvilfs/anvilfs/ondisk/rawjson"
)

// quotaVersion is the output_version of the JSON of quota and du.
const quotaVersion = 1

// quota carries out a quota command on a mount.
func (c *controller) quota(ctx context.Context, words []string, w io.Writer) error {
	i := -1
	if len(words) > 0 {
		i = slices.IndexFunc(quotaVerbs, func(v quotaVerb) bool { return v.name == words[0] })
	}
	files := c.files.Load()
	if i < 0 || files == nil {
		return errors.New("quota takes one of set, clear, list, show, recount: help shows how")
	}
	v := &quotaVerbs[i]
	flags, f := v.flagSet()
	if err := flags.Parse(words[1:]); err != nil {
		return fmt.Errorf("quota %s: %w", v.name, flagError(err))
	}
	var dir uint64
	if v.args == "DIR" {
		if flags.NArg() != 1 {
			return fmt.Errorf("quota %s takes a directory, as a path from the mount point", v.name)
		}
		var err error
		if dir, err = files.FindPath(ctx, strings.Split(flags.Arg(0), "/")); err != nil {
			return fmt.Errorf("%s: %w", flags.Arg(0), err)
		}
	}
	switch v.name {
	case "set":
		return c.quotaSet(ctx, files, dir, f)
	case "clear":
		err := using(files, func() error { return files.ClearQuota(ctx, dir) })
		if err != nil {
			return quotaError(flags.Arg(0), err)
		}
		return waitQuota(ctx, files, dir, f)
	case "recount":
		return c.quotaRecount(ctx, files, f)
	case "show":
		return c.quotaShow(ctx, files, dir, flags.Arg(0), f, w)
	}
	list, err := c.quotas(ctx, files)
	if err != nil {
		return err
	}
	return printQuotas(w, list, f)
}

// quotaError says in words what an errno means here.
func quotaError(path string, err error) error {
	switch text := fs.Errno(err).Error(); text {
	case "no data available":
		return fmt.Errorf("%s has no quota", path)
	case "device or resource busy":
		return fmt.Errorf("the account of %s is being given up: try again in a moment", path)
	}
	return fmt.Errorf("%s: %w", path, err)
}

func waitQuota(ctx context.Context, files *fs.FS, dir uint64, f *quotaWords) error {
	if !f.wait {
		return nil
	}
	return files.QuotaInForce(ctx, dir)
}

func (c *controller) quotaSet(ctx context.Context, files *fs.FS, dir uint64, f *quotaWords) error {
	limits, err := parseLimits(f)
	if err != nil {
		return err
	}
	if err := using(files, func() error { return files.SetQuota(ctx, dir, limits) }); err != nil {
		return quotaError(c.pool.PathOf(ctx, dir), err)
	}
	return waitQuota(ctx, files, dir, f)
}

// parseLimits returns the change that the flags ask for.
func parseLimits(f *quotaWords) (func(*fs.Limits), error) {
	set := fs.Limits{}
	for _, n := range []struct {
		text string
		to   *uint64
		unit int64
	}{{f.bytes, &set.Bytes, 1024}, {f.inodes, &set.Inodes, 1000}} {
		if n.text == "" || n.text == "none" {
			continue
		}
		size, err := parseSize(n.text)
		if n.unit == 1000 {
			size, err = parseCount(n.text)
		}
		if err != nil {
			return nil, err
		}
		if size == 0 { // some mean no limit by it, some a full tree
			return nil, fmt.Errorf("quota set: a limit of %s is not clear: write none for no limit, or 1 if nothing may be added", n.text)
		}
		*n.to = uint64(size)
	}
	return func(l *fs.Limits) {
		if f.bytes != "" {
			l.Bytes = set.Bytes
		}
		if f.inodes != "" {
			l.Inodes = set.Inodes
		}
	}, nil
}

// parseCount reads a number with an optional unit of thousands: 500, 100k, 2m.
func parseCount(s string) (int64, error) {
	num, scale := strings.ToLower(s), int64(1)
	for unit, by := range map[string]int64{"k": 1e3, "m": 1e6, "g": 1e9} {
		if cut, ok := strings.CutSuffix(num, unit); ok {
			num, scale = cut, by
		}
	}
	n, err := strconv.ParseInt(num, 10, 32)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("number %q: write one with k or m behind it, like 100k", s)
	}
	return n * scale, nil
}

func (c *controller) quotaRecount(ctx context.Context, files *fs.FS, f *quotaWords) error {
	if err := using(files, func() error { return files.RecountQuotas(ctx) }); err != nil {
		return err
	}
	list, err := files.Quotas(ctx)
	for i := range list {
		err = errors.Join(err, waitQuota(ctx, files, list[i].Inum, f))
	}
	return err
}

// quotas lists the accounts by path, with what was not committed until now.
func (c *controller) quotas(ctx context.Context, files *fs.FS) ([]advice.Tree, error) {
	if err := c.pool.Sync(ctx); err != nil {
		return nil, err
	}
	list, err := treesOf(ctx, c.pool, files, nil)
	slices.SortFunc(list, func(a, b advice.Tree) int { return cmp.Compare(a.Path, b.Path) })
	return list, err
}

func (c *controller) quotaShow(ctx context.Context, files *fs.FS, inum uint64, name string, f *quotaWords, w io.Writer) error {
	root, err := files.AccountOf(ctx, inum)
	if err != nil {
		return err
	}
	if err := c.pool.Sync(ctx); err != nil {
		return err
	}
	q, ok, err := files.QuotaOf(ctx, root)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("%s is in no tree with a quota: anvilfs quota set gives it one", name)
	}
	return printQuotas(w, []advice.Tree{{Path: c.pool.PathOf(ctx, root), Percent: q.Percent(), Quota: q}}, f)
}

func printQuotas(w io.Writer, list []advice.Tree, f *quotaWords) error {
	if f.json {
		return rawjson.Write(w, struct {
			Version int           `json:"output_version"`
			Quotas  []advice.Tree `json:"quotas"`
		}{quotaVersion, append([]advice.Tree{}, list...)}, "  ")
	}
	if f.script {
		for _, q := range list {
			fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%s\n", q.Path, q.Bytes, q.MaxBytes, q.Inodes, q.MaxInodes, q.Percent, quotaState(&q.Quota))
		}
		return nil
	}
	size := sizes(f.exact)
	limit := func(n uint64, text func(uint64) string) string {
		if n == 0 {
			return "-"
		}
		return text(n)
	}
	count := func(n uint64) string { return strconv.FormatUint(n, 10) }
	t := newTable("PATH", "USED", "LIMIT", "INODES", "LIMIT", "FULL", "STATE")
	for _, q := range list {
		full := "-"
		if q.MaxBytes+q.MaxInodes > 0 {
			full = fmt.Sprintf("%d%%", q.Percent)
		}
		t.row(advice.Printable(q.Path), size(q.Bytes), limit(q.MaxBytes, size), count(q.Inodes), limit(q.MaxInodes, count), full, quotaState(&q.Quota))
	}
	t.print(w)
	return nil
}

func quotaState(q *fs.Quota) string {
	switch {
	case q.Leaving:
		return "being cleared"
	case q.Counting:
		return "being counted"
	case q.Stale:
		return "stale" // another system wrote since
	}
	return exact
}

// exact is the state of an account that is what is in its tree.
const exact = "exact"

// du answers for pairs of a path from the mount point and its name for people;
// a path alone is its own name.
func (c *controller) du(ctx context.Context, words []string, w io.Writer) error {
	flags, f := duVerb.flagSet()
	if err := flags.Parse(words); err != nil {
		return fmt.Errorf("du: %w", flagError(err))
	}
	files, args := c.files.Load(), flags.Args()
	if files == nil || len(args) == 0 {
		return errors.New("du takes paths from the mount point")
	}
	if len(args) == 1 {
		args = append(args, args[0])
	}
	if f.summarize {
		f.depth = 0
	}
	var list []fs.TreeUse
	began := time.Now()
	for ; len(args) > 1; args = args[2:] {
		inum, err := files.FindPath(ctx, strings.Split(args[0], "/"))
		if err != nil {
			return fmt.Errorf("%s: %w", args[1], err)
		}
		part, err := files.Du(ctx, inum, path.Clean(args[1]), fs.DuOptions{Depth: f.depth, Apparent: f.apparent})
		if err != nil {
			return fmt.Errorf("%s: %w", args[1], err)
		}
		list = append(list, part...)
	}
	sortUse(list, f.sort)
	return printUse(w, list, f, time.Since(began))
}

func printUse(w io.Writer, list []fs.TreeUse, f *quotaWords, took time.Duration) error {
	if f.json {
		return rawjson.Write(w, struct {
			Version int          `json:"output_version"`
			Seconds float64      `json:"seconds"`
			Trees   []fs.TreeUse `json:"trees"`
		}{quotaVersion, took.Seconds(), append([]fs.TreeUse{}, list...)}, "  ")
	}
	if f.script {
		for _, u := range list {
			fmt.Fprintf(w, "%d\t%d\t%s\n", u.Bytes, u.Inodes, u.Path)
		}
		return nil
	}
	size := sizes(f.exact)
	t := newTable("SPACE", "INODES", "PATH")
	for _, u := range list {
		t.row(size(u.Bytes), strconv.FormatUint(u.Inodes, 10), advice.Printable(u.Path))
	}
	t.print(w)
	return nil
}
