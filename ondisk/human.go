package ondisk

import (
	"fmt"
	"strconv"
	"strings"
)

// units are powers of 1024, as disks and memory are divided.
const units = "KMGTPE"

// Human prints bytes for people: three digits and a unit.
func Human(n uint64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/1024, 0
	for f >= 999.5 && i < len(units)-1 {
		f /= 1024
		i++
	}
	digits := 2
	for d := f; d >= 10 && digits > 0; d /= 10 {
		digits--
	}
	text := strconv.FormatFloat(f, 'f', digits, 64)
	if strings.Contains(text, ".") {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return fmt.Sprintf("%s %ciB", text, units[i])
}

// Exact is Human with the number itself, where people look for the one device
// that has it, or where little is missing.
func Exact(n uint64) string {
	if n < 1024 {
		return fmt.Sprintf("%d bytes", n)
	}
	return fmt.Sprintf("%s (%d bytes)", Human(n), n)
}
