package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/anvilfs/anvilfs/ondisk"
)

// units are powers of 1024, as disks and memory are divided.
const units = "kmgtpe"

// parseSize reads a number of bytes with an optional unit: 64m, 10G, 1.5t.
func parseSize(s string) (int64, error) {
	bad := fmt.Errorf("size %q: write a number with k, m, g or t behind it, like 10g", s)
	num := strings.ToLower(strings.TrimSpace(s))
	num = strings.TrimSuffix(strings.TrimSuffix(num, "b"), "i")
	scale := 1.0
	if n := len(num); n > 0 {
		if i := strings.IndexByte(units, num[n-1]); i >= 0 {
			scale = math.Pow(1024, float64(i+1))
			num = num[:n-1]
		}
	}
	f, err := strconv.ParseFloat(num, 64)
	if err != nil || f < 0 || math.IsNaN(f) || f*scale > math.MaxInt64/2 {
		return 0, bad
	}
	return int64(f * scale), nil
}

// human prints bytes for people: three digits and a unit.
func human(n uint64) string { return ondisk.Human(n) }
