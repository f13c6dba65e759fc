package advice

import (
	"fmt"
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
