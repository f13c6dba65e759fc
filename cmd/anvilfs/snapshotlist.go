package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk/rawjson"
)

func (c *controller) snapshotList(ctx context.Context, f *snapshotWords, w io.Writer) error {
	list, err := c.snapshots(ctx, !f.quick)
	if err != nil {
		return err
	}
	return printSnapshots(w, list, f)
}

// A snapshotList is what there is, and as of when what is unique was counted: "" = as
// of when it was asked for.
type snapshotList struct {
	list []cluster.SnapshotReport
	asOf string
}

func (c *controller) snapshots(ctx context.Context, unique bool) (s snapshotList, err error) {
	if unique {
		s.asOf = c.settled(ctx)
	}
	s.list, err = c.pool.Snapshots(ctx, unique)
	return s, err
}

// settleWait is how long a list waits for a commit.
const settleWait = 10 * time.Second

// settled has all that was changed until now in the trees, where what is unique is
// counted: else what was removed just now would count as used. Without a commit the
// list is wanted all the more, as when there is no space for one: then the result
// says as of when it counts.
func (c *controller) settled(ctx context.Context) (asOf string) {
	if c.pool.ReadOnly() {
		return "" // all that it shows is committed
	}
	ctx, cancel := context.WithTimeoutCause(ctx, settleWait, fmt.Errorf("it takes longer than %v", settleWait))
	defer cancel()
	if files := c.files.Load(); files != nil {
		files.Reaped(ctx)
	}
	err := c.pool.Settle(ctx)
	if err == nil {
		return ""
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return fmt.Sprintf("what is unique is counted as of tid %v: what was changed since is not committed: %v", c.pool.Committed().T, err)
}

func printSnapshots(w io.Writer, s snapshotList, f *snapshotWords) error {
	list := s.list
	if f.json {
		return printSnapshotJSON(w, s, nil)
	}
	if f.script {
		for i := range list {
			if s.asOf != "" {
				list[i].Unique = -1 // a script has nowhere to be told
			}
			fmt.Fprintln(w, strings.Join(snapshotCells(&list[i], true, time.RFC3339), "\t"))
		}
		return nil
	}
	if len(list) == 0 {
		fmt.Fprintln(w, "there are no snapshots")
		return nil
	}
	t := newTable("NAME", "CREATED", "TID", "USED", "UNIQUE", "NOTES")
	for i := range list {
		t.row(snapshotCells(&list[i], f.exact, "2006-01-02 15:04:05")...)
	}
	t.print(w)
	if s.asOf != "" {
		fmt.Fprintln(w, s.asOf)
	}
	return nil
}

func snapshotCells(r *cluster.SnapshotReport, exact bool, layout string) []string {
	used := human(r.Used)
	if exact {
		used = strconv.FormatUint(r.Used, 10)
	}
	var notes []string
	if r.Auto {
		notes = append(notes, "automatic")
	}
	if len(r.Holds) > 0 {
		notes = append(notes, "held by "+holdWords(r.Holds))
	}
	if len(r.Missing) > 0 {
		notes = append(notes, "still to be copied to "+strings.Join(r.Missing, ", "))
	}
	tid := r.Tid
	if tid == "" {
		tid = "-"
	}
	return []string{r.Name, r.Created.Local().Format(layout), tid, used, bytesOrDash(r.Unique, exact), strings.Join(notes, "; ")}
}

func bytesOrDash(n int64, exact bool) string {
	switch {
	case n < 0:
		return "-"
	case exact:
		return strconv.FormatInt(n, 10)
	}
	return human(uint64(n))
}

func holdWords(holds []cluster.HoldReport) string {
	var words []string
	for _, h := range holds {
		word := h.Owner
		if h.Until != nil {
			word += " until " + h.Until.Local().Format("2006-01-02 15:04")
		}
		words = append(words, word)
	}
	return strings.Join(words, ", ")
}

// snapshotVersion is the output_version of the JSON below. It rises when a
// field changes its meaning or goes.
const snapshotVersion = 1

// policy is told if it is not nil.
func printSnapshotJSON(w io.Writer, s snapshotList, policy *cluster.SnapshotPolicy) error {
	if s.list == nil {
		s.list = []cluster.SnapshotReport{}
	}
	return rawjson.Write(w, snapshotsJSON{snapshotVersion, s.list, s.asOf, policyOf(policy)}, "  ")
}

type snapshotsJSON struct {
	Version   int                      `json:"output_version"`
	Snapshots []cluster.SnapshotReport `json:"snapshots"`
	AsOf      string                   `json:"unique_as_of,omitempty"` // a sentence
	Policy    *policyJSON              `json:"policy,omitempty"`
}

// A policyJSON is the policy as snapshot policy --json prints it.
type policyJSON struct {
	Daily     uint16 `json:"daily"`
	FreeSpace bool   `json:"free_space"`
	Hourly    uint16 `json:"hourly"`
	Monthly   uint16 `json:"monthly"`
	Version   int    `json:"output_version"`
	Weekly    uint16 `json:"weekly"`
}

func policyOf(p *cluster.SnapshotPolicy) *policyJSON {
	if p == nil {
		return nil
	}
	return &policyJSON{p.Daily, p.FreeSpace, p.Hourly, p.Monthly, snapshotVersion, p.Weekly}
}
