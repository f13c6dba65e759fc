package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk/rawjson"
)

// snapshot carries out a snapshot command on a mount.
func (c *controller) snapshot(ctx context.Context, words []string, w io.Writer) error {
	i := -1
	if len(words) > 0 && words[0] == "rollback" {
		return c.rollback(ctx, words[1:], w)
	}
	if len(words) > 0 {
		i = slices.IndexFunc(snapshotVerbs, func(v snapshotVerb) bool { return v.name == words[0] })
	}
	if i < 0 {
		return fmt.Errorf("snapshot takes one of %s: help shows how", strings.Join(verbNames(), ", "))
	}
	v := &snapshotVerbs[i]
	flags, f := v.flagSet()
	if err := flags.Parse(words[1:]); errors.Is(err, pflag.ErrHelp) {
		return fmt.Errorf("snapshot %s: help lists what can be asked, anvilfs snapshot %s --help its flags", v.name, v.name)
	} else if err != nil {
		return fmt.Errorf("snapshot %s: %w", v.name, flagError(err))
	}
	args := flags.Args()
	if err := v.check(len(args)); err != nil {
		return err
	}
	if f.owner == "" {
		f.owner = "root"
	}
	switch v.name {
	case "create":
		if len(args) == 1 && args[0] == "" {
			return errors.New("snapshot create: the name is empty: leave it out to have the time for it")
		}
		return c.snapshotCreate(ctx, strings.Join(args, ""), f, w)
	case "list":
		return c.snapshotList(ctx, f, w)
	case "delete":
		return c.snapshotDelete(ctx, args, f, w)
	case "hold":
		return c.snapshotHold(ctx, args[0], f)
	case "policy":
		return c.snapshotPolicy(ctx, flags, f, w)
	case "clone":
		return c.pool.SnapshotClone(ctx, args[0], args[1], f.force)
	case "release":
		return c.pool.SnapshotRelease(ctx, args[0], f.owner)
	}
	return fmt.Errorf("snapshot %s is not known to this mount", v.name)
}

func verbNames() (names []string) {
	for i := range snapshotVerbs {
		names = append(names, snapshotVerbs[i].name)
	}
	return append(names, "rollback")
}

func (c *controller) snapshotCreate(ctx context.Context, name string, f *snapshotWords, w io.Writer) error {
	var holds []cluster.Hold
	if f.hold || f.until != "" {
		until, err := parseWhen(f.until, time.Now())
		if err != nil {
			return err
		}
		holds = append(holds, cluster.Hold{Owner: f.owner, Since: time.Now(), Until: until})
	}
	name, err := c.pool.SnapshotCreate(ctx, name, false, holds...)
	if err != nil {
		return err
	}
	if f.json {
		list, err := c.pool.Snapshots(ctx, false)
		if err != nil {
			return err
		}
		list = slices.DeleteFunc(list, func(r cluster.SnapshotReport) bool { return r.Name != name })
		return printSnapshotJSON(w, snapshotList{list: list}, nil)
	}
	_, err = fmt.Fprintln(w, name)
	return err
}

func (c *controller) snapshotHold(ctx context.Context, name string, f *snapshotWords) error {
	until, err := parseWhen(f.until, time.Now())
	if err != nil {
		return err
	}
	return c.pool.SnapshotHold(ctx, name, f.owner, until)
}

// keepSnapshots carries out the policy until ctx ends.
func keepSnapshots(ctx context.Context, p *cluster.Pool, log *slog.Logger) {
	tick := time.NewTicker(policyLook)
	defer tick.Stop()
	for {
		if err := p.ApplySnapshotPolicy(ctx); err != nil && ctx.Err() == nil {
			log.Warn("the snapshot policy was not carried out", "err", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// policyLook is how often it is looked whether a snapshot is due.
const policyLook = 30 * time.Second

// snapshotPolicy changes what was said, and shows what is in force.
func (c *controller) snapshotPolicy(ctx context.Context, flags *pflag.FlagSet, f *snapshotWords, w io.Writer) error {
	p, err := c.pool.SnapshotPolicy(ctx)
	if err != nil {
		return err
	}
	was := p
	if f.off {
		if flags.NFlag() > 1 && !(flags.NFlag() == 2 && f.json) {
			return errors.New("snapshot policy: --off ends all of it: leave out the other flags, or --off")
		}
		p = cluster.SnapshotPolicy{}
	}
	for name, set := range map[string]func(){
		"hourly":     func() { p.Hourly = f.policy.Hourly },
		"daily":      func() { p.Daily = f.policy.Daily },
		"weekly":     func() { p.Weekly = f.policy.Weekly },
		"monthly":    func() { p.Monthly = f.policy.Monthly },
		"free-space": func() { p.FreeSpace = f.policy.FreeSpace },
	} {
		if flags.Changed(name) {
			set()
		}
	}
	if p != was {
		if err := c.pool.SetSnapshotPolicy(ctx, p); err != nil {
			return err
		}
		if err := c.pool.ApplySnapshotPolicy(ctx); err != nil {
			return err
		}
	}
	return printPolicy(w, p, f)
}

func printPolicy(w io.Writer, p cluster.SnapshotPolicy, f *snapshotWords) (err error) {
	if f.json {
		return rawjson.Write(w, policyOf(&p), "")
	}
	if p.Off() {
		_, err = fmt.Fprintln(w, "no snapshots are made by themselves")
		return err
	}
	space := "they stay when space is short"
	if p.FreeSpace {
		space = "the oldest go when space is short"
	}
	_, err = fmt.Fprintf(w, "kept: hourly %d, daily %d, weekly %d, monthly %d; %s\n", p.Hourly, p.Daily, p.Weekly, p.Monthly, space)
	return err
}

func (c *controller) snapshotDelete(ctx context.Context, names []string, f *snapshotWords, w io.Writer) error {
	if !f.dryRun {
		s := c.mount.Load()
		known := s != nil && s.KnowsSnapshots(names)
		if err := c.pool.SnapshotDelete(ctx, names...); err != nil || !known {
			return err
		}
		return sayHeld(s.ForgetSnapshots(ctx), names, w)
	}
	asOf := c.settled(ctx)
	list, err := c.pool.Snapshots(ctx, true)
	if err != nil {
		return err
	}
	held := false
	var asked []cluster.SnapshotReport
	for _, name := range names {
		i := slices.IndexFunc(list, func(r cluster.SnapshotReport) bool { return r.Name == name })
		if i < 0 {
			return fmt.Errorf("snapshot delete: %q: %w: anvilfs snapshot list MNT shows those there are", name, cluster.ErrNoSnapshot)
		}
		asked = append(asked, list[i])
		if len(list[i].Holds) > 0 {
			held = true
			fmt.Fprintf(w, "%s would stay: it is held by %s\n", name, holdWords(list[i].Holds))
		}
	}
	if held { // they go all together, or none does
		if len(names) > 1 {
			fmt.Fprintln(w, "nothing would be deleted")
		}
		return nil
	}
	for i := range asked {
		fmt.Fprintf(w, "%s would be deleted: %s are its own\n", asked[i].Name, bytesOrDash(asked[i].Unique, false))
	}
	if err := c.sayTogether(ctx, names, w); err != nil || asOf == "" {
		return err
	}
	_, err = fmt.Fprintln(w, asOf)
	return err
}

// sayHeld tells which of the names are of deleted snapshots that are still in use.
func sayHeld(held, names []string, w io.Writer) (err error) {
	for _, name := range held {
		if err == nil && slices.Contains(names, name) {
			_, err = fmt.Fprintf(w, "%s is deleted and still in use: its space is held until the files in it that are open are closed\n", name)
		}
	}
	return err
}

// sayTogether tells what snapshots have together and nothing else has: of what
// two have, neither has it for its own.
func (c *controller) sayTogether(ctx context.Context, names []string, w io.Writer) error {
	if len(names) < 2 {
		return nil
	}
	n, ok, err := c.pool.UniqueTo(ctx, names)
	if err == nil && ok {
		_, err = fmt.Fprintf(w, "together they free %s\n", human(n))
	}
	return err
}

// parseWhen reads a time to come: a length (36h, 30d), a date or a time.
// Empty is the zero time.
func parseWhen(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 20); err == nil {
			return now.AddDate(0, 0, int(n)), nil
		}
	}
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(d), nil
	}
	for _, layout := range []string{time.DateOnly, time.DateTime, "2006-01-02T15:04", time.RFC3339} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, errors.New("the time " + strconv.Quote(s) + " is not understood: write 36h, 30d, 2027-01-31 or 2027-01-31T18:00:00+01:00")
}
