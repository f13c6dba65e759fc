package cluster

import (
	"strings"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// A device is not empty because its first MiB is: older RAID metadata lie at its end,
// and copies of a HAMMER2 volume header a gigabyte apart.
func TestEmptyToTheEnd(t *testing.T) {
	dev := memdev.New(testVolume)
	check(t, mustBeEmpty(t.Context(), []ondisk.Device{dev}))
	_, err := dev.WriteAt([]byte("\xfc\x4e\x2b\xa9"), testVolume-(64<<10))
	check(t, err)
	if err := mustBeEmpty(t.Context(), []ondisk.Device{dev}); err == nil || !strings.Contains(err.Error(), "it carries a member of a RAID array") {
		t.Error(err)
	}
}

// What is on a HAMMER2 volume is told by its labels.
func TestLabelled(t *testing.T) {
	dev := memdev.New(testVolume)
	_, err := FormatCache(t.Context(), []ondisk.Device{dev}, "HOME", ondisk.NewUUID(), time.Now())
	check(t, err)
	dev.Reopen()
	for found, want := range map[string]string{
		"a HAMMER2 volume (file system id X)": "a HAMMER2 volume with a cache of HOME (file system id X)",
		"an XFS filesystem":                   "an XFS filesystem",
		"":                                    "",
	} {
		if got := Labelled(t.Context(), found, []ondisk.Device{dev}); got != want {
			t.Errorf("%q: %q, want %q", found, got, want)
		}
	}
	if got := Labelled(t.Context(), "a HAMMER2 volume (torn)", []ondisk.Device{memdev.New(testVolume)}); got != "a HAMMER2 volume (torn)" {
		t.Errorf("what cannot be read: %q", got)
	}
}
