package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/anvilfs/anvilfs/cluster"
	resync "github.com/anvilfs/anvilfs/sync"
)

// rollbackPatience is how long members that are behind are waited for before a
// rollback. Those that are not there by then follow at the next mount.
const rollbackPatience = 30 * time.Second

func rollbackCommand() *cobra.Command {
	var noKeep bool
	c := &cobra.Command{
		Use:   "rollback DEVICE[,DEVICE...]@LABEL NAME",
		Short: "Put back everything as a snapshot has it, in a filesystem that is not mounted",
		Long: `Rollback puts back what the snapshot has, on all members in one commit, however
large the difference. What was there until now is kept as a snapshot, which is
named, and other snapshots stay. A member that is not given, or is away, follows
when it is back.

The filesystem must not be mounted: programs would go on with files that are not
there any more. Single files are put back by copying them from
MNT/.anvilfs/snapshots/NAME.`,
		Args: exactly(2, "the source of a filesystem and a snapshot"),
		RunE: func(c *cobra.Command, args []string) error {
			if st, err := os.Stat(args[0]); err == nil && st.IsDir() {
				return fmt.Errorf("%s is a directory: unmount the filesystem, and give its source, as to mount: DEVICE,DEVICE@LABEL", args[0])
			}
			s, err := parseSource(args[0])
			if err != nil {
				return err
			}
			kept, err := rollback(c.Context(), s, args[1], !noKeep)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "rolled back to %s\n", args[1])
			if kept != "" {
				fmt.Fprintf(c.OutOrStdout(), "what was there is snapshot %s\n", kept)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&noKeep, "no-keep", false, "do not keep what is there now")
	return c
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
