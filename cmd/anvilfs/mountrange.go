package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/anvilfs/anvilfs/cmd/doctor"
)

// A timeRange is what a mount option with a time takes. What is far outside is a
// slip of the fingers, and shows only when it hurts: as what a crash took along, or
// as a disk that is dead and waited for.
type timeRange struct {
	least, most time.Duration
	words       string // both ends, as they are typed
	parseOne    func(string) (time.Duration, error)
}

var (
	// Below, commits follow each other without a pause; above, a crash takes more than
	// anybody means to give up.
	commitRange = timeRange{100 * time.Millisecond, time.Hour, "0.1 to 3600 seconds", parseSeconds}
	// A healthy disk may take most of a second when it is busy; a kernel gives up
	// long before an hour is over.
	deadlineRange = timeRange{time.Second, time.Hour, "1 to 3600 seconds", parseSeconds}
	waitRange     = timeRange{100 * time.Millisecond, time.Hour, "0.1 to 3600 seconds", parseSeconds}
	scrubRange    = timeRange{time.Hour, 3650 * 24 * time.Hour, "1h to 3650d", parseDays}
)

func (r *timeRange) parse(s string) (time.Duration, error) {
	d, err := r.parseOne(s)
	if err == nil && (d < r.least || d > r.most) {
		err = fmt.Errorf("%s is out of range: write %s", s, r.words)
	}
	return d, err
}

// minMemory leaves room for the largest system call and some caches.
const minMemory = 32 << 20

// parseMemory reads a size that this machine has.
func parseMemory(s string) (int64, error) {
	n, err := parseSize(s)
	if err != nil {
		return 0, err
	}
	m, err := doctor.Here()
	if err != nil {
		return 0, err
	}
	has, where := m.Memory()
	return n, checkMemory(s, n, has, where)
}

// checkMemory refuses what is too little to work with, and more than has bytes, which
// is what where has: the mount would be ended by the kernel when it takes them. has is
// 0 if nobody knows.
func checkMemory(s string, n, has int64, where string) error {
	switch {
	case n < minMemory:
		return fmt.Errorf("%s is less than the %s that are needed", s, human(minMemory))
	case has > 0 && n > has:
		return fmt.Errorf("%s is more than there is: write 32m to %dm, since %s has %s", s, has>>20, where, human(uint64(has)))
	}
	return nil
}

// parseSeconds reads a number of seconds, or a duration with a unit.
func parseSeconds(s string) (time.Duration, error) {
	text := s
	if n, err := strconv.ParseFloat(s, 64); err == nil {
		text = strconv.FormatFloat(n, 'f', -1, 64) + "s"
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%q is not a time above zero: write seconds, or a number with ms, s, m or h", s)
	}
	return d, nil
}

// parseDays reads a time in days, as 30d or 0.5d, or with another unit.
func parseDays(s string) (time.Duration, error) {
	if n, ok := strings.CutSuffix(s, "d"); ok {
		days, err := strconv.ParseFloat(n, 64)
		if err == nil && days > 0 && days < 10_000 {
			return time.Duration(days * float64(24*time.Hour)), nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%q is not a time above zero: write days, as 30d, or hours, as 12h", s)
	}
	return d, nil
}
