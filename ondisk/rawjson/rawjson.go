// Package rawjson is JSON of values whose texts may be any bytes: names of files, of
// devices, and messages that have such names in them.
//
// JSON has only text, so a byte that is no part of UTF-8 is the escape \udcXX, with XX
// its value, as Python has it; what else reads JSON sees U+FFFD there. It is read back
// as it was. All other text is as encoding/json writes it.
//
// All JSON of anvilfs is written and read here (lint_test.go), whatever the types: a
// name may be in any text.
package rawjson

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Marshal is v in one line.
func Marshal(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil || !bytes.Contains(text, []byte(`\ufffd`)) { // what json makes of such a byte
		return text, err
	}
	mark := markNotIn(text)
	marked := reflect.New(reflect.TypeOf(v)).Elem()
	marked.Set(reflect.ValueOf(v))
	edit(marked, func(s string) string { return markRaw(s, mark) })
	if text, err = json.Marshal(marked.Interface()); err != nil {
		return nil, err
	}
	return bytes.ReplaceAll(text, []byte(mark), []byte(`\udc`)), nil
}

// Write writes v and a line end; indent is what inner lines begin with, "" keeps all in
// one line.
func Write(w io.Writer, v any, indent string) error {
	text, err := Marshal(v)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if indent == "" {
		b.Write(text)
	} else if err := json.Indent(&b, text, "", indent); err != nil {
		return err
	}
	b.WriteByte('\n')
	_, err = w.Write(b.Bytes())
	return err
}

// Unmarshal reads what Marshal and others wrote into what v points to.
func Unmarshal(text []byte, v any) error {
	if !bytes.Contains(bytes.ToLower(text), []byte(`\udc`)) {
		return json.Unmarshal(text, v)
	}
	mark := markNotIn(text)
	if err := json.Unmarshal(markEscapes(text, mark), v); err != nil {
		return err
	}
	edit(reflect.ValueOf(v).Elem(), func(s string) string { return unmark(s, mark) })
	return nil
}

// markNotIn is what stands for the `\udc` of an escape meanwhile. It begins with a sign
// that it has once, so that it is found right whatever is before it.
func markNotIn(text []byte) string {
	for n := 0; ; n++ {
		if mark := fmt.Sprintf("\ue000%d\ue001", n); !bytes.Contains(text, []byte(mark)) {
			return mark
		}
	}
}

// markRaw has the mark and two digits for each byte that is no part of UTF-8.
func markRaw(s, mark string) string {
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for s != "" {
		r, size := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && size == 1 {
			fmt.Fprintf(&b, "%s%02x", mark, s[0])
		} else {
			b.WriteString(s[:size])
		}
		s = s[size:]
	}
	return b.String()
}

// markEscapes is JSON with the mark for the `\udc` of such escapes. Behind one of a high
// surrogate it is half of a sign.
func markEscapes(text []byte, mark string) []byte {
	out := make([]byte, 0, len(text)+len(text)/4)
	for half := false; len(text) > 0; {
		if text[0] != '\\' || len(text) < 2 {
			out, text, half = append(out, text[0]), text[1:], false
			continue
		}
		n, code := 2, uint64(0)
		if text[1] == 'u' && len(text) >= 6 {
			n = 6
			code, _ = strconv.ParseUint(string(text[2:6]), 16, 16) // 0 if it is none
		}
		if code >= 0xdc80 && code <= 0xdcff && !half {
			out = append(append(out, mark...), text[4:6]...)
		} else {
			out = append(out, text[:n]...)
		}
		text, half = text[n:], code >= 0xd800 && code < 0xdc00
	}
	return out
}

// unmark has the bytes again. Text behind a mark that is none of markEscapes stays.
func unmark(s, mark string) string {
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(s, mark)
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		code, err := strconv.ParseUint(rest[:min(2, len(rest))], 16, 8)
		if err != nil || len(rest) < 2 {
			b.WriteString(mark)
			s = rest
			continue
		}
		b.WriteByte(byte(code))
		s = rest[2:]
	}
}

// edit changes all texts in v, which can be set. What v leads to is copied before: it
// may belong to others.
func edit(v reflect.Value, fn func(string) string) {
	switch v.Kind() {
	case reflect.String:
		if v.CanSet() {
			v.SetString(fn(v.String()))
		}
	case reflect.Struct:
		for i := range v.NumField() { // also through one that is embedded and cannot be set
			edit(v.Field(i), fn)
		}
	case reflect.Array:
		for i := range v.Len() {
			edit(v.Index(i), fn)
		}
	case reflect.Slice, reflect.Map, reflect.Pointer, reflect.Interface:
		if v.CanSet() && !v.IsNil() {
			v.Set(edited(v, fn))
		}
	}
}

// edited is a copy of v, which leads elsewhere, with its texts changed.
func edited(v reflect.Value, fn func(string) string) reflect.Value {
	copyOf := func(v reflect.Value) reflect.Value {
		c := reflect.New(v.Type()).Elem()
		c.Set(v)
		edit(c, fn)
		return c
	}
	switch v.Kind() {
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return v
		}
		list := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
		for i := range v.Len() {
			list.Index(i).Set(copyOf(v.Index(i)))
		}
		return list
	case reflect.Map:
		m := reflect.MakeMapWithSize(v.Type(), v.Len())
		for it := v.MapRange(); it.Next(); {
			m.SetMapIndex(copyOf(it.Key()), copyOf(it.Value()))
		}
		return m
	case reflect.Pointer:
		return copyOf(v.Elem()).Addr()
	}
	return copyOf(v.Elem()) // of an interface
}
