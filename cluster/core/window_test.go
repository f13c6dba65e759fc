package core

import "testing"

// Symptom: the daemon grew by all that was written, since txgs that had left
// the window were still referred to by the array behind it.
func TestWindowLetsGo(t *testing.T) {
	p := &Primary{window: make([]*Txg, 0, 64)}
	p.opt.Window = 100
	for range 10 {
		p.window = append(p.window, &Txg{Size: 30})
		p.kept += 30
	}
	array := p.window
	p.trim()
	if len(p.window) != 3 || p.kept != 90 {
		t.Fatalf("%d txgs of %d bytes kept", len(p.window), p.kept)
	}
	for i, x := range array[:7] {
		if x != nil {
			t.Errorf("txg %d of 10 is still referred to", i)
		}
	}
}
