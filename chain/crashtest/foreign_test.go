package crashtest

import "testing"

// TestForeign starts from volumes that DragonFly wrote: the first commit brings
// their freemap up to date, and what they hold must survive all that follows.
func TestForeign(t *testing.T) {
	for _, name := range []string{"small", "pfs", "bulkfree"} {
		t.Run(name, func(t *testing.T) {
			e := &Explorer{Limit: 2}
			run{foreignWorkload(), shape(t, name)}.explore(t, e, 1, 0, Job{Max: 1})
			for _, f := range e.Failures() {
				t.Error(f)
			}
			t.Log(e.Counts())
			if e.Counts().Distinct < 20 {
				t.Error("few images")
			}
		})
	}
}
