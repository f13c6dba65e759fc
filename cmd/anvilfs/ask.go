package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// ask has the daemon of the filesystem at dir carry out a command, and copies
// its reply to out. When ctx ends, the command may still run.
func ask(ctx context.Context, dir string, out io.Writer, words ...string) error {
	f, err := os.OpenFile(filepath.Join(dir, ".anvilfs", "control"), os.O_RDWR, 0)
	if err != nil {
		return mountError(dir, err)
	}
	type answer struct {
		text []byte
		err  error
	}
	done := make(chan answer, 1)
	go func() {
		defer f.Close()
		text, err := exchange(f, joinWords(words))
		done <- answer{text, err}
	}()
	select {
	case a := <-done:
		if a.err != nil {
			return mountError(dir, a.err)
		}
		_, err := out.Write(a.text)
		return err
	case <-ctx.Done():
		return errors.New("interrupted: what was begun may still be going on, 'anvilfs status' shows it")
	}
}

// exchange writes a command and reads the reply. A command that failed fails
// the write, and then the reply, at the same place, has the reason.
func exchange(f *os.File, line string) ([]byte, error) {
	_, err := f.WriteString(line)
	text, readErr := io.ReadAll(f)
	if err == nil {
		return text, readErr
	}
	if reason, ok := strings.CutPrefix(lastLine(string(text)), "error: "); ok {
		return nil, errors.New(reason)
	}
	return nil, err
}

func lastLine(s string) string {
	s = strings.TrimRight(s, "\n")
	return s[strings.LastIndexByte(s, '\n')+1:]
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
				return nil, errors.New("a quotation mark is missing its partner")
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

// readStatus reads status.json of the filesystem at dir.
func readStatus(dir string) (*mountStatus, []byte, error) {
	data, err := os.ReadFile(filepath.Join(dir, ".anvilfs", "status.json"))
	if err != nil {
		return nil, nil, mountError(dir, err)
	}
	var s mountStatus
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, nil, err
	}
	return &s, data, nil
}
