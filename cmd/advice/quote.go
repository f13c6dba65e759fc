package advice

import (
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Quote makes a word that a shell reads as it is.
func Quote(word string) string { return quote(word) }

// quote makes a word that a shell reads as it is. What a terminal would take for
// something else than text is written in numbers.
func quote(word string) string {
	if word != Printable(word) && !strings.HasSuffix(word, "\n") { // the shell cuts those off
		var b strings.Builder
		for i := 0; i < len(word); i++ {
			switch c := word[i]; {
			case c < ' ' || c > '~' || c == '\'' || c == '\\':
				fmt.Fprintf(&b, `\%03o`, c)
			case c == '%':
				b.WriteString("%%")
			default:
				b.WriteByte(c)
			}
		}
		return `"$(printf '` + b.String() + `')"`
	}
	if word == "" || strings.ContainsAny(word, " \t\n\"'`\\$&;()<>|*?[]#~!{}") {
		return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	return word
}

// Printable is a text for a terminal: names of files may hold line ends, and what
// moves the cursor or changes what stands above. Such bytes are written as in C.
func Printable(text string) string {
	var b strings.Builder
	for len(text) > 0 {
		r, n := utf8.DecodeRuneInString(text)
		switch {
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == utf8.RuneError && n == 1, !unicode.IsPrint(r) && !unicode.IsSpace(r), r < ' ':
			for i := range n {
				fmt.Fprintf(&b, `\x%02x`, text[i])
			}
		default:
			b.WriteString(text[:n])
		}
		text = text[n:]
	}
	return b.String()
}

// PrintableLines is a text of which line ends and tabs are meant, else as Printable.
func PrintableLines(text string) string {
	var b strings.Builder
	for {
		i := strings.IndexAny(text, "\n\t")
		if i < 0 {
			b.WriteString(Printable(text))
			return b.String()
		}
		b.WriteString(Printable(text[:i]) + text[i:i+1])
		text = text[i+1:]
	}
}

// Lines is a writer of such text to w, of whole characters at a time.
func Lines(w io.Writer) io.Writer { return lines{w} }

type lines struct{ w io.Writer }

func (l lines) Write(p []byte) (int, error) {
	if _, err := io.WriteString(l.w, PrintableLines(string(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// typable is a command in a text of a room that does not know the mount.
var typable = regexp.MustCompile(`(anvilfs (?:[a-z-]+ )+)MNT\b( NODE\b)?`)

// Typed is a text in which commands can be typed as they stand: those that say MNT,
// and NODE, get the mount point and the node that the text is about. "" leaves the
// word there.
func Typed(text, dir, node string) string {
	return typable.ReplaceAllStringFunc(text, func(command string) string {
		if dir != "" {
			command = strings.Replace(command, "MNT", Quote(dir), 1)
		}
		if before, ok := strings.CutSuffix(command, " NODE"); ok && node != "" {
			command = before + " " + Quote(node)
		}
		return command
	})
}
