package fs

import (
	"errors"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A property reads back as it was set, and what does not exist is refused.
func TestProperties(t *testing.T) {
	for _, c := range []struct{ name, value string }{
		{PropCompression, "none"}, {PropCompression, "autozero"}, {PropCompression, "lz4"},
		{PropCompression, "zlib"}, {PropCompression, "zlib:1"}, {PropCompression, "zlib:9"},
		{PropCheck, "none"}, {PropCheck, "iscsi32"}, {PropCheck, "xxhash64"}, {PropCheck, "sha192"},
	} {
		change, err := parseProperty(c.name, c.value)
		if err != nil {
			t.Errorf("%s=%s: %v", c.name, c.value, err)
			continue
		}
		m := ondisk.InodeMeta{CompAlgo: 0xff, CheckAlgo: 0xff}
		change(&m)
		if got, err := property(&m, c.name); err != nil || string(got) != c.value {
			t.Errorf("%s=%s reads back as %q, %v", c.name, c.value, got, err)
		}
	}
	for _, c := range []struct {
		name, value string
		want        error
	}{
		{PropCompression, "", errInvalid}, {PropCompression, "zlib:", errInvalid}, {PropCompression, "zlib:0", errInvalid},
		{PropCompression, "zlib:10", errInvalid}, {PropCompression, "lz4:1", errInvalid}, {PropCompression, "LZ4", errInvalid},
		{PropCheck, "freemap", errInvalid}, {PropCheck, "disabled", errInvalid}, {propPrefix + "quota", "1g", errNotHere},
	} {
		if _, err := parseProperty(c.name, c.value); !errors.Is(err, c.want) {
			t.Errorf("%s=%s: %v, want %v", c.name, c.value, err, c.want)
		}
	}
}
