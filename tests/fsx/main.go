// Command fsx makes random changes in a directory, compares what it reads with
// a model, and knows which states a power cut may leave.
//
//	fsx run DIRECTORY HISTORY SEED
//	fsx check DIRECTORY HISTORY
//	fsx sum DIRECTORY
//
// run takes the directory as it finds it and works until it is interrupted, or
// until a call fails. Interrupted, it flushes all and ends with 0; after a
// failed call that is an I/O error, as when the server is gone, with 3; if what
// it reads is wrong, with 1. HISTORY then lists the states since the last flush
// that was acknowledged, that one included, one line each.
//
// check demands that the directory is in one of these states: no call half
// done, none without those before it, and nothing lost that was acknowledged.
//
// sum prints the state: equal directories print the same.
//
// HISTORY.ops, which grows while it runs, counts calls and acknowledgements:
// who cuts the power can wait for some.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
)

const (
	exitWrong = 1 // what was read is not what was written
	exitUsage = 2
	exitIO    = 3 // a call failed
)

func main() {
	err := run(os.Args[1:])
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "fsx:", err)
	var fault *ioError
	switch {
	case errors.Is(err, errUsage):
		os.Exit(exitUsage)
	case errors.As(err, &fault):
		os.Exit(exitIO)
	}
	os.Exit(exitWrong)
}

var errUsage = errors.New("usage: fsx run DIRECTORY HISTORY SEED | check DIRECTORY HISTORY | sum DIRECTORY")

func run(words []string) error {
	switch {
	case len(words) == 4 && words[0] == "run":
		seed, err := strconv.ParseInt(words[3], 10, 64)
		if err != nil {
			return errUsage
		}
		stop := make(chan os.Signal, 1)
		signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
		return work(words[1], words[2], seed, stop)
	case len(words) == 3 && words[0] == "check":
		return check(words[1], words[2])
	case len(words) == 2 && words[0] == "sum":
		s, err := scan(words[1])
		if err != nil {
			return err
		}
		fmt.Print(s)
		return nil
	}
	return errUsage
}

// An ioError is a call that failed, as opposed to one that did the wrong thing.
type ioError struct{ err error }

func (e *ioError) Error() string { return e.err.Error() }
func (e *ioError) Unwrap() error { return e.err }

// failed wraps the error of a call.
func failed(err error) error {
	if err == nil {
		return nil
	}
	return &ioError{err}
}
