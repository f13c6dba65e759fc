package main

import (
	"fmt"
	"io"
	"log/slog"
	"log/syslog"
	"os"
	"runtime/debug"
)

// crashFile takes the trace of a serving process that dies of a fault of its
// own, where no log= says otherwise: the system log cannot be written to then.
const crashFile = "/var/log/anvilfs-crash.log"

// catchCrash makes the runtime write such a trace to f. It can only fail where
// the descriptor cannot be copied, and then the trace goes to standard error.
func catchCrash(f *os.File) { _ = debug.SetCrashOutput(f, debug.CrashOptions{}) }

// openLog opens where a serving process writes: standard error in front, the
// named file, or the system log; without one, nowhere but the status.
func openLog(o *mountOptions, foreground bool) (*slog.Logger, func(), error) {
	level := slog.LevelInfo
	if o.debug {
		level = slog.LevelDebug
	}
	handler := func(w io.Writer) *slog.Logger {
		return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
	}
	if o.logFile != "" {
		f, err := os.OpenFile(o.logFile, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
		if err != nil {
			return nil, nil, fmt.Errorf("mount option log: %w: name a file that can be written", err)
		}
		catchCrash(f)
		return handler(f), func() { _ = f.Close() }, nil
	}
	if foreground {
		return handler(os.Stderr), func() {}, nil
	}
	if f, err := os.OpenFile(crashFile, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640); err == nil {
		catchCrash(f)
		_ = f.Close() // the runtime has its own copy
	}
	w, err := syslog.New(syslog.LOG_DAEMON|syslog.LOG_INFO, "anvilfs")
	if err != nil { // no system log here, as in a container
		return handler(io.Discard), func() {}, nil
	}
	return handler(w), func() { _ = w.Close() }, nil
}
