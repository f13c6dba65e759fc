package ondisk

import (
	"encoding/json"
	"testing"
)

// Symptom: JSON had another name than the file: each byte that is no UTF-8 had become
// the same sign, and the conflict about it was not found any more.
func TestRawName(t *testing.T) {
	for _, c := range []struct{ name, text string }{
		{"", `""`}, {"/a b", `"/a b"`}, {"é\n\"\\", `"é\n\"\\"`}, {"\xff", `"\udcff"`}, {"a\x80é\xc3", `"a\udc80é\udcc3"`},
		{"\ufffd\xfd", "\"\ufffd\\udcfd\""}, {`\udcff`, `"\\udcff"`}, {"\\\xff", `"\\\udcff"`}, {"\U0001f600\xf0\x9f", "\"\U0001f600\\udcf0\\udc9f\""},
		{"\xed\xb3\xbf", `"\udced\udcb3\udcbf"`}, // U+DCFF itself is no UTF-8
	} {
		text, err := json.Marshal(RawName(c.name))
		if err != nil || string(text) != c.text {
			t.Errorf("%q: %s (%v), want %s", c.name, text, err, c.text)
		}
		back := RawName("other")
		if err := json.Unmarshal(text, &back); err != nil || string(back) != c.name {
			t.Errorf("%s: %q (%v), want %q", text, back, err, c.name)
		}
	}
	// What others write: pairs of surrogates are one sign.
	for text, want := range map[string]string{`"\ud83d\ude00"`: "\U0001f600", `"\ud83d\udcff"`: "\U0001f4ff", `"\u00e9\u005c"`: `é\`, `null`: "was",
		`"\ud83d\udc80\udc80"`: "\U0001f480\x80", `"\udc7f"`: "\ufffd"} {
		got := RawName("was")
		if err := json.Unmarshal([]byte(text), &got); err != nil || string(got) != want {
			t.Errorf("%s: %q (%v), want %q", text, got, err, want)
		}
	}
	for _, text := range []string{`5`, `{}`, `"\uzzzz"`} {
		if err := json.Unmarshal([]byte(text), new(RawName)); err == nil {
			t.Errorf("%s was taken", text)
		}
	}
}

func FuzzRawName(f *testing.F) {
	f.Add("a\xff\\ud83d", []byte(`"\ud83d\udcff"`))
	f.Fuzz(func(t *testing.T, name string, text []byte) {
		b, err := json.Marshal(RawName(name))
		var back RawName
		if err != nil || json.Unmarshal(b, &back) != nil || string(back) != name {
			t.Fatalf("%q: %s, and back %q (%v)", name, b, back, err)
		}
		_ = json.Unmarshal(text, &back) // any JSON
		_ = (&back).UnmarshalJSON(text) // and any bytes
	})
}
