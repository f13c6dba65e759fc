package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/anvilfs/anvilfs/cmd/advice"
)

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
		fmt.Fprintf(errOut, "anvilfs: %s\n", advice.PrintableLines(text)) // names may be in it
	}
	return exitCode(err)
}

// newRoot builds the command tree. Every command writes its result to out.
func newRoot(out, errOut io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:           "anvilfs",
		Short:         "One filesystem, several full copies, each readable on its own",
		Version:       version(),
		Args:          cobra.ArbitraryArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError("anvilfs has no command %q: see anvilfs --help", args[0])
			}
			return c.Help()
		},
	}
	root.SetOut(out)
	root.SetErr(errOut)
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError("%w: see %s --help", flagError(err), c.CommandPath())
	})
	root.AddCommand(
		newfsCommand(),
		mountCommand(),
		umountCommand(),
		syncCommand(),
		statusCommand(),
		scanCommand(),
		topCommand(),
		nodeCommand(),
		conflictsCommand(),
		snapshotCommand(),
		scrubCommand(),
		errorsCommand(),
		getCommand(),
		setCommand(),
		quotaCommand(),
		duCommand(),
		setOne("setcomp", "compression", "Set how files are compressed"),
		setOne("setcheck", "check", "Set the check code of files"),
		waitCommand(),
		fsckCommand(),
		recoverCommand(),
		showCommand(),
		bulkfreeCommand(),
		growCommand(),
		convertCommand(),
		dedupCommand(),
		pfsCommand(),
		demoCommand(),
		doctorCommand(),
		manualCommand(),
		versionCommand(),
	)
	completeWords(root)
	return root
}
