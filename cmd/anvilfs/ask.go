package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"github.com/anvilfs/anvilfs/fs"
)

// answerTimeout is how long a server may take over a question that costs it
// nothing. One that hangs must not hang those who look at it.
const answerTimeout = 10 * time.Second

// bounded runs fn, which may hang in a system call, no longer than ctx lasts.
func bounded(ctx context.Context, dir string, fn func() ([]byte, error)) ([]byte, error) {
	type answer struct {
		text []byte
		err  error
	}
	done := make(chan answer, 1)
	go func() {
		text, err := fn()
		done <- answer{text, err}
	}()
	select {
	case a := <-done:
		return a.text, mountError(dir, a.err)
	case <-ctx.Done():
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return nil, fmt.Errorf("the server of %s does not answer: its log says why; 'umount -l %s' detaches it", dir, dir)
	}
	return nil, errors.New("interrupted: what was begun may still be going on, 'anvilfs status' shows it")
}

// ask has the server of the filesystem at dir carry out a command, and copies
// its reply to out. When ctx ends, the command may still run.
func ask(ctx context.Context, dir string, out io.Writer, words ...string) error {
	text, err := bounded(ctx, dir, func() ([]byte, error) {
		file, line := filepath.Join(dir, ".anvilfs", "control"), joinWords(words)
		f, err := os.OpenFile(file, os.O_RDWR, 0)
		if errors.Is(err, syscall.EROFS) {
			return askReadOnly(file, line)
		}
		if err != nil {
			return nil, err
		}
		defer f.Close()
		_, err = f.WriteString(line)
		return reply(f, err)
	})
	if err != nil {
		return err
	}
	_, err = out.Write(text)
	return err
}

// askReadOnly hands a command to a mount that is read-only. One that changes
// something is an EROFS.
func askReadOnly(file, line string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var buf [fs.AskLen]byte
	if copy(buf[:], line) == len(buf) {
		return nil, fmt.Errorf("a command of %d bytes: a read-only mount takes %d: %w", len(line), len(buf)-1, syscall.E2BIG)
	}
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), fs.IocAsk, uintptr(unsafe.Pointer(&buf)))
	switch errno {
	case 0:
		return reply(f, nil)
	case syscall.EROFS, syscall.ENOTTY: // of a server that is older than this program
		return nil, syscall.EROFS
	}
	return reply(f, errno)
}

// reply reads what a command said. One that failed with err said why, at the same
// place.
func reply(f *os.File, err error) ([]byte, error) {
	text, readErr := io.ReadAll(f)
	if err == nil {
		return text, readErr
	}
	const mark = "\nerror: "
	if i := strings.LastIndex("\n"+string(text), mark); i >= 0 {
		return nil, errors.New(strings.TrimSpace(string(text)[i+len(mark)-1:]))
	}
	return nil, err
}

// joinWords quotes what would not survive as one word.
func joinWords(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		if w == "" || strings.ContainsAny(w, " \t\n\"\\") {
			w = strconv.Quote(w)
		}
		quoted[i] = w
	}
	return strings.Join(quoted, " ")
}

// splitWords undoes joinWords.
func splitWords(line string) ([]string, error) {
	var words []string
	for line = strings.TrimSpace(line); line != ""; line = strings.TrimSpace(line) {
		var w string
		if line[0] == '"' {
			quoted, err := strconv.QuotedPrefix(line)
			if err != nil {
				return nil, errors.New("a quotation mark is missing its partner, or a backslash is before what needs none")
			}
			if w, err = strconv.Unquote(quoted); err != nil {
				return nil, err
			}
			line = line[len(quoted):]
		} else {
			end := strings.IndexAny(line, " \t\n")
			if end < 0 {
				end = len(line)
			}
			w, line = line[:end], line[end:]
		}
		words = append(words, w)
	}
	return words, nil
}

// tell is ask with the reply as a string.
func tell(ctx context.Context, dir string, words ...string) (string, error) {
	var reply strings.Builder
	err := ask(ctx, dir, &reply, words...)
	return reply.String(), err
}

// readStatus reads status.json of the filesystem at dir.
func readStatus(ctx context.Context, dir string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	return bounded(ctx, dir, func() ([]byte, error) {
		return os.ReadFile(filepath.Join(dir, ".anvilfs", "status.json"))
	})
}
