package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

// Exit codes; docs/exit-codes.md explains them to users.
const (
	exitOK     = 0
	exitFailed = 1 // the command was understood, and failed
	exitUsage  = 2 // the command line is wrong

	// mount(8) and umount(8).
	exitMount = 32

	// fsck(8); the bits are added up over several devices.
	fsckCorrected   = 1
	fsckUncorrected = 4
	fsckFailed      = 8
	fsckUsage       = 16
	fsckCancelled   = 32

	// status --check, as monitoring systems read them.
	checkWarning  = 1
	checkCritical = 2
	checkUnknown  = 3
)

// An exitError is an error that wants a certain exit code. err may be nil:
// everything was said already.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// withCode makes err end the program with code.
func withCode(code int, err error) error {
	if err == nil && code == exitOK {
		return nil
	}
	return &exitError{code: code, err: err}
}

// exitCode is the exit code that err asks for.
func exitCode(err error) int {
	var e *exitError
	if errors.As(err, &e) {
		return e.code
	}
	return exitFailed
}

// usageError is a wrong command line: it names the help.
func usageError(c *cobra.Command, err error) error {
	code := exitUsage
	switch c.Name() {
	case "fsck":
		code = fsckUsage
	case "mount", "umount":
		code = exitFailed // mount(8): incorrect invocation or permissions
	}
	return withCode(code, fmt.Errorf("%w: '%s --help' shows what can be given", err, c.CommandPath()))
}

// needArgs checks the number of arguments: from min to max, or any number
// above min if max is negative. what names them.
func needArgs(min, max int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) >= min && (max < 0 || len(args) <= max) {
			return nil
		}
		return usageError(c, fmt.Errorf("%d arguments given, but needed is %s", len(args), what))
	}
}
