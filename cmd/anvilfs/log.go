package main

import (
	"io"
	"log/slog"
	"log/syslog"
	"os"
)

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
			return nil, nil, err
		}
		return handler(f), func() { _ = f.Close() }, nil
	}
	if foreground {
		return handler(os.Stderr), func() {}, nil
	}
	w, err := syslog.New(syslog.LOG_DAEMON|syslog.LOG_INFO, "anvilfs")
	if err != nil { // no system log here, as in a container
		return handler(io.Discard), func() {}, nil
	}
	return handler(w), func() { _ = w.Close() }, nil
}
