package rawjson

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"testing"
	"time"
)

// Symptom: JSON had another name than the file: each byte that is no UTF-8 had become
// the same sign, and the conflict about it was not found any more.
func TestTexts(t *testing.T) {
	for _, c := range []struct{ name, text string }{
		{"", `""`}, {"/a b", `"/a b"`}, {"é\n\"\\", `"é\n\"\\"`}, {"\xff", `"\udcff"`}, {"a\x80é\xc3", `"a\udc80é\udcc3"`},
		{"\ufffd\xfd", "\"\ufffd\\udcfd\""}, {`\udcff`, `"\\udcff"`}, {"\\\xff", `"\\\udcff"`}, {"\U0001f600\xf0\x9f", "\"\U0001f600\\udcf0\\udc9f\""},
		{"\xed\xb3\xbf", `"\udced\udcb3\udcbf"`},                                 // U+DCFF itself is no UTF-8
		{"\ue0000\ue001\xff\ue000\xfe", "\"\ue0000\ue001\\udcff\ue000\\udcfe\""}, // what stands for the escapes meanwhile
	} {
		text, err := Marshal(c.name)
		if err != nil || string(text) != c.text {
			t.Errorf("%q: %s (%v), want %s", c.name, text, err, c.text)
		}
		back := "other"
		if err := Unmarshal(text, &back); err != nil || back != c.name {
			t.Errorf("%s: %q (%v), want %q", text, back, err, c.name)
		}
	}
	// What others write: pairs of surrogates are one sign.
	for text, want := range map[string]string{`"\ud83d\ude00"`: "\U0001f600", `"\ud83d\udcff"`: "\U0001f4ff", `"\u00e9\u005c"`: `é\`, `null`: "was",
		`"\ud83d\udc80\udc80"`: "\U0001f480\x80", `"\udc7f"`: "\ufffd", `"\uDCE9"`: "\xe9", `"\\udce9\udce9"`: "\\udce9\xe9"} {
		got := "was"
		if err := Unmarshal([]byte(text), &got); err != nil || got != want {
			t.Errorf("%s: %q (%v), want %q", text, got, err, want)
		}
	}
	for _, text := range []string{`5`, `{}`, `"\uzzzz"`, `"\udcff\u"`, `"\udcff\`} {
		if err := Unmarshal([]byte(text), new(string)); err == nil {
			t.Errorf("%s was taken", text)
		}
	}
}

type inner struct {
	Name string    `json:"name"`
	When time.Time `json:"when"`
}

type everything struct {
	inner
	Text  string            `json:"text"`
	List  []inner           `json:"list"`
	Known map[string]*inner `json:"known"`
	Any   any               `json:"any"`
	Pair  [2]string         `json:"pair"`
	Bytes []byte            `json:"bytes"`
	none  []string
}

// Names are found wherever they are, and the value they are of stays as it was.
func TestDeep(t *testing.T) {
	const odd, escaped = "caf\xe9", `caf\udce9`
	when := time.Unix(1, 0).UTC()
	value := func() *everything {
		return &everything{inner: inner{odd, when}, Text: odd + "!", List: []inner{{"plain", when}, {odd, when}},
			Known: map[string]*inner{odd: {odd, when}}, Any: map[string]any{"a": []any{odd, 1.5, nil}}, Pair: [2]string{"a", odd}, Bytes: []byte("\xe9"), none: []string{"not seen"}}
	}
	v := value()
	text, err := Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(v, value()) {
		t.Errorf("it was changed: %+v", v)
	}
	if n := bytes.Count(text, []byte(escaped)); n != 7 || !json.Valid(text) {
		t.Errorf("%d names are right, want 7: %s", n, text)
	}
	var back everything
	if err := Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	back.none = v.none
	if !reflect.DeepEqual(&back, v) {
		t.Errorf("%+v, want %+v", back, v)
	}
	known := make(map[string]inner)
	if err := Unmarshal([]byte(`{"`+escaped+`": {"name": "`+escaped+`"}}`), &known); err != nil || !maps.Equal(known, map[string]inner{odd: {Name: odd}}) {
		t.Errorf("%v (%v)", known, err)
	}
	var plain, raw bytes.Buffer
	e := json.NewEncoder(&plain)
	e.SetIndent("", "  ")
	if err := e.Encode(inner{"<é>\u2028", when}); err != nil {
		t.Fatal(err)
	}
	if err := Write(&raw, inner{"<é>\u2028", when}, "  "); err != nil || raw.String() != plain.String() {
		t.Errorf("%q (%v), want what encoding/json writes: %q", raw.String(), err, plain.String())
	}
}

func FuzzUnmarshal(f *testing.F) {
	f.Add("a\xff\\ud83d", []byte(`"\ud83d\udcff"`))
	f.Add("\ue0000\ue001\xff", []byte(`{"\udcff": ["\udc80", null, "\ud83d\udcff"]}`))
	f.Fuzz(func(t *testing.T, name string, text []byte) {
		b, err := Marshal([]string{name})
		var back []string
		if err != nil || Unmarshal(b, &back) != nil || len(back) != 1 || back[0] != name {
			t.Fatalf("%q: %s, and back %q (%v)", name, b, back, err)
		}
		var any any
		if Unmarshal(text, &any) == nil { // what is taken can be written, and means the same
			b, err := Marshal(any)
			var again interface{}
			if err != nil || Unmarshal(b, &again) != nil || !reflect.DeepEqual(any, again) {
				t.Fatalf("%s is %#v, and %s (%v)", text, any, b, err)
			}
		}
	})
}
