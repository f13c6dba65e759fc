package merge

import "testing"

// Symptom: a conflict about a file whose name is no UTF-8 was stored under another
// name; nothing was found there, so that it went from the list as if decided.
func TestConflictsKeepNames(t *testing.T) {
	const name, beside = "caf\xe9", "caf\xe9.conflict-b-1"
	c, err := DecodeConflicts(EncodeConflicts(&Conflicts{List: []Conflict{{Path: "d/" + name, Copy: "d/" + beside, Dir: 7, Name: name, CopyDir: 7, CopyName: beside}}}))
	if err != nil {
		t.Fatal(err)
	}
	k := c.List[0]
	for _, p := range [][2]string{{k.Path, "d/" + name}, {k.Copy, "d/" + beside}, {k.Name, name}, {k.CopyName, beside}} {
		if p[0] != p[1] {
			t.Errorf("%q, want %q", p[0], p[1])
		}
	}
}
