package fsck

import (
	"context"
	"strings"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/golden"
)

// devicesOf returns the devices of the file system that an image is part of.
func devicesOf(t *testing.T, image string) []ondisk.Device {
	if image == "multivol-0" {
		return []ondisk.Device{golden.Device(t, "multivol-1"), golden.Device(t, image)}
	}
	return []ondisk.Device{golden.Device(t, image)}
}

func check(t *testing.T, o Options, devs ...ondisk.Device) *Report {
	t.Helper()
	rep, err := Check(context.Background(), devs, o)
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

func has(rep *Report, s Severity, parts ...string) bool {
	for _, f := range rep.Findings {
		if f.Severity != s {
			continue
		}
		all := true
		for _, p := range parts {
			all = all && strings.Contains(f.String(), p)
		}
		if all {
			return true
		}
	}
	return false
}

func TestGoldenVolumes(t *testing.T) {
	for _, image := range golden.Images(t) {
		if image == "multivol-1" {
			continue
		}
		t.Run(image, func(t *testing.T) {
			rep := check(t, Options{AllSlots: true}, devicesOf(t, image)...)
			if !rep.Foreign || !has(rep, Info, "another implementation") {
				t.Error("the foreign writer is not noticed")
			}
			switch image {
			case "damaged-data":
				if rep.Errors != 1 || !has(rep, Error, "DATA", "/k40", "0x8c10000") {
					t.Errorf("/k40 is not the one error: %v", rep.Findings)
				}
			case "damaged-header":
				if rep.Clean() || !has(rep, Warning, "slot 2", "code of sector 1") {
					t.Errorf("the header is not reported: %v", rep.Findings)
				}
			default:
				if !rep.Clean() {
					t.Errorf("not clean: %v", rep.Findings)
				}
			}
			t.Logf("%+v %v", rep.Counts, rep.PFSs)
		})
	}
}
