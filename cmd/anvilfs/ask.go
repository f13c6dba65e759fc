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
	"time"
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
		f, err := os.OpenFile(filepath.Join(dir, ".anvilfs", "control"), os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return exchange(f, joinWords(words))
	})
	if err != nil {
		return err
	}
	_, err = out.Write(text)
	return err
}

// exchange writes a command and reads the reply. A command that failed fails
// the write, and then the reply, at the same place, has the reason.
func exchange(f *os.File, line string) ([]byte, error) {
	_, err := f.WriteString(line)
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
