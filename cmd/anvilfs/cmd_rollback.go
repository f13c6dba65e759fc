package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/fs"
	"github.com/anvilfs/anvilfs/ondisk/rawjson"
	resync "github.com/anvilfs/anvilfs/sync"
)

// rollbackPatience is how long members that are behind are waited for before a
// rollback. Those that are not there by then follow at the next mount.
const rollbackPatience = 30 * time.Second

// rollbackFlags are those of the client and of the mount.
func rollbackFlags() (f *pflag.FlagSet, noKeep, asJSON *bool) {
	f = pflag.NewFlagSet("rollback", pflag.ContinueOnError)
	noKeep = f.Bool("no-keep", false, "do not keep what is there now")
	asJSON = f.Bool("json", false, "print JSON")
	return f, noKeep, asJSON
}

func rollbackCommand() *cobra.Command {
	flags, noKeep, asJSON := rollbackFlags()
	c := &cobra.Command{
		Use:   "rollback MNT|DEVICE[,DEVICE...]@LABEL NAME",
		Short: "Put back everything as a snapshot has it",
		Long: `Rollback puts back what the snapshot has, on all members in one commit, however
large the difference. What was there until now, all that was written before the
command included, is kept as a snapshot, which is named: a rollback to that undoes
this one. Other snapshots stay, newer ones too. A member that is away follows when it
is back.

A mounted filesystem is rolled back in place. Calls wait while it is done. A file
that is open goes on with the content that the snapshot has of it, as if another
machine had changed it; if the snapshot has no such file, every use of it fails with
ESTALE, and so it is with working directories. A directory that had been removed has
to be entered anew. Mapped pages are those of the snapshot afterwards; what is
written through a mapping meanwhile is lost. Locks stay with the open file. Programs
that keep in memory what they read - databases, editors - do not notice: stop them
before.

Single files are put back by copying them from MNT/.anvilfs/snapshots/NAME.`,
		Args: exactly(2, "a mount point, or the source of a filesystem, and a snapshot"),
		RunE: func(c *cobra.Command, args []string) error {
			if st, err := os.Stat(args[0]); err == nil && st.IsDir() {
				words := []string{"snapshot", "rollback", fmt.Sprintf("--no-keep=%v", *noKeep), fmt.Sprintf("--json=%v", *asJSON), "--", args[1]}
				reply, err := tell(c.Context(), args[0], words...)
				fmt.Fprint(c.OutOrStdout(), reply)
				return err
			}
			s, err := parseSource(args[0])
			if err != nil {
				return err
			}
			s.members = s.nodes() // what a cache holds is found, or not, whatever is rolled back
			kept, err := rollback(c.Context(), s, args[1], !*noKeep)
			if err != nil {
				return err
			}
			return printRollback(c.OutOrStdout(), args[1], kept, *asJSON)
		},
	}
	c.Flags().AddFlagSet(flags)
	return c
}

func printRollback(w io.Writer, name, kept string, asJSON bool) error {
	if asJSON {
		return rawjson.Write(w, struct {
			Version int    `json:"output_version"`
			To      string `json:"rolled_back_to"`
			Kept    string `json:"kept,omitempty"`
		}{snapshotVersion, name, kept}, "  ")
	}
	fmt.Fprintf(w, "rolled back to %s\n", name)
	if kept != "" {
		fmt.Fprintf(w, "what was there is snapshot %s\n", kept)
	}
	return nil
}

// rollback opens the filesystem for as long as it takes.
func rollback(ctx context.Context, s source, name string, keep bool) (kept string, err error) {
	if err := s.findLabel(ctx); err != nil {
		return "", err
	}
	err = withPool(ctx, s, func(p *cluster.Pool) (err error) {
		gather(ctx, p, slog.New(slog.DiscardHandler))
		kept, err = p.SnapshotRollback(ctx, name, keep)
		return err
	})
	return kept, err
}

// gather gives members that are behind, or lack snapshots, some time.
func gather(ctx context.Context, p *cluster.Pool, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(ctx, rollbackPatience)
	done := make(chan struct{})
	go func() {
		defer close(done)
		resync.NewManager(p, resync.Options{Logger: log}).Run(ctx)
	}()
	for _, what := range []string{cluster.WaitResync, cluster.WaitSnapshots} {
		if err := p.Wait(ctx, what); err != nil {
			break // the rollback judges what that means
		}
	}
	cancel()
	<-done
}

// rollback rolls back the filesystem that this process serves.
func (c *controller) rollback(ctx context.Context, words []string, w io.Writer) error {
	flags, noKeep, asJSON := rollbackFlags()
	if err := flags.Parse(words); err != nil {
		return fmt.Errorf("snapshot rollback: %w", err)
	}
	server := c.mount.Load()
	switch {
	case flags.NArg() != 1:
		return errors.New("snapshot rollback takes the name of a snapshot: anvilfs snapshot list MNT shows those there are")
	case server == nil:
		return errors.New("snapshot rollback: the mount is not complete yet: try again")
	}
	name, kept := flags.Arg(0), ""
	if err := c.pool.CanRollBack(ctx, name); err != nil {
		return err
	}
	if !c.branches.turn.TryLock() {
		return errors.New("snapshot rollback: a branch is being merged, or a conflict forgotten: try again when status says that it is done")
	}
	defer c.branches.turn.Unlock()
	ctx = context.WithoutCancel(ctx) // from here on it is done or not, whoever asked
	err := server.Rollback(ctx, func(refuse func()) (done bool, err error) {
		kept, err = c.pool.SnapshotRollbackSettled(ctx, name, !*noKeep, func(err error) {
			c.log.Warn("a rollback waits for the members", "snapshot", name, "err", err)
			if c.pool.FailsWithoutQuorum() {
				refuse()
			}
		})
		return err == nil, err
	})
	if err != nil {
		return err
	}
	c.branches.count(ctx) // the list of conflicts is part of the content
	c.log.Info("rolled back", "snapshot", name, "kept", kept)
	return printRollback(w, name, kept, *asJSON)
}

// using changes files while no rollback is done.
func using(files *fs.FS, change func() error) error {
	done, err := files.Use()
	if err != nil {
		return fmt.Errorf("a rollback waits for the members: %w", err)
	}
	defer done()
	return change()
}
