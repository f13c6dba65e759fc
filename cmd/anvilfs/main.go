// Command anvilfs is everything an administrator types: it makes volumes,
// mounts them, watches and repairs them, and is its own mount helper.
//
//	main ── argv[0] ── personality (mount., umount., mkfs., fsck.) ─┐
//	    └── subcommand ─────────────────────────────────────────────┴─ cmd_VERB.go
//
// Commands come in two kinds. Those on devices (newfs, fsck, show, pfs,
// bulkfree DEV) open them alone and fail while they are mounted. Those on a
// mount (status, sync, node, wait, bulkfree MNT) write one line to
// MNT/.anvilfs/control, where the daemon of that mount carries it out
// (control.go); they need no other channel, and neither does any script.
//
// mount starts itself again as the daemon and returns when the root answers.
// umount returns when the daemon is gone, which is when the media are
// complete (detach.go).
//
// Not here: what a file is (fs), which member is right (cluster).
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the Makefile.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run carries out one command line and returns the exit code.
func run(ctx context.Context, argv []string, out, errOut io.Writer) int {
	args := personality(argv)
	root := newRoot(out, errOut)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if text := err.Error(); text != "" {
		fmt.Fprintf(errOut, "anvilfs: %s\n", text)
	}
	return exitCode(err)
}

// newRoot builds the command tree. Every command writes its result to out.
func newRoot(out, errOut io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:           "anvilfs",
		Short:         "One filesystem, several full copies, each readable on its own",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetOut(out)
	root.SetErr(errOut)
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError(c, err)
	})
	root.AddCommand(
		newfsCommand(),
		mountCommand(),
		umountCommand(),
		syncCommand(),
		statusCommand(),
		nodeCommand(),
		waitCommand(),
		fsckCommand(),
		showCommand(),
		bulkfreeCommand(),
		pfsCommand(),
		demoCommand(),
	)
	return root
}
