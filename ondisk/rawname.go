package ondisk

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A RawName is a name or path of the filesystem: any bytes. JSON has only text, so
// there a byte that is no part of UTF-8 is the escape \udcXX, with XX its value, as
// Python has it; what else reads JSON sees U+FFFD there. It is read back as it was.
type RawName string

// MarshalJSON implements json.Marshaler.
func (n RawName) MarshalJSON() ([]byte, error) {
	var b strings.Builder
	b.WriteByte('"')
	for rest := string(n); rest != ""; {
		whole := validPrefix(rest)
		text, err := json.Marshal(rest[:whole])
		if err != nil {
			return nil, err
		}
		b.Write(text[1 : len(text)-1])
		if rest = rest[whole:]; rest != "" {
			fmt.Fprintf(&b, `\udc%02x`, rest[0])
			rest = rest[1:]
		}
	}
	b.WriteByte('"')
	return []byte(b.String()), nil
}

// validPrefix is how much of s is UTF-8.
func validPrefix(s string) int {
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return len(s)
}

// UnmarshalJSON implements json.Unmarshaler.
func (n *RawName) UnmarshalJSON(text []byte) error {
	var b strings.Builder
	begin := 1 // of what is text, in text
	flush := func(end int) error {
		if end <= begin {
			return nil
		}
		var s string
		err := json.Unmarshal([]byte(`"`+string(text[begin:end])+`"`), &s)
		b.WriteString(s)
		return err
	}
	if len(text) < 2 || text[0] != '"' { // null, or no text at all
		return json.Unmarshal(text, (*string)(n))
	}
	high := -1 // where a surrogate began that takes the next one along
	for i := 1; i < len(text)-1; i++ {
		if text[i] != '\\' {
			continue
		}
		if text[i+1] != 'u' || i+6 > len(text)-1 {
			i++
			continue
		}
		code, err := strconv.ParseUint(string(text[i+2:i+6]), 16, 16)
		if err != nil {
			return fmt.Errorf("name %s: %w", text, err)
		}
		switch {
		case code >= 0xdc80 && code <= 0xdcff && high != i:
			if err := flush(i); err != nil {
				return err
			}
			b.WriteByte(byte(code))
			begin = i + 6
		case code >= 0xd800 && code < 0xdc00:
			high = i + 6
		}
		i += 5
	}
	if err := flush(len(text) - 1); err != nil {
		return err
	}
	*n = RawName(b.String())
	return nil
}
