package main

import (
	"errors"
	"fmt"
)

// Exit codes; docs/guide.md explains them to users.
const (
	exitOK     = 0
	exitFailed = 1 // the command was understood, and failed
	exitUsage  = 2 // the command line is wrong

	// mount(8) and umount(8).
	exitMount = 32

	// fsck(8); the bits are added up over several devices.
	fsckClean       = 0
	fsckCorrected   = 1
	fsckUncorrected = 4
	fsckOperational = 8
	fsckUsage       = 16
	fsckCancelled   = 32

	// status --check and doctor, as monitoring systems read them.
	checkWarning  = 1
	checkCritical = 2
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

// exitWith is an error that ends the program with code.
func exitWith(code int, format string, args ...any) error {
	return &exitError{code: code, err: fmt.Errorf(format, args...)}
}

// exitCode is the exit code that err asks for.
func exitCode(err error) int {
	var e *exitError
	if errors.As(err, &e) {
		return e.code
	}
	return exitFailed
}

// usageError is a wrong command line.
func usageError(format string, args ...any) error {
	return exitWith(exitUsage, format, args...)
}
