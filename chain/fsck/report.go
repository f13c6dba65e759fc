package fsck

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
)

// Severity is how bad a finding is.
type Severity uint8

// The severities, mildest first.
const (
	Info Severity = iota
	Warning
	Error
)

var severityNames = []string{"info", "warning", "error"}

// String returns the lower-case name.
func (s Severity) String() string { return severityNames[s] }

// MarshalText implements encoding.TextMarshaler.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// A Finding is one thing that is not as it should be. Fields that do not
// apply are zero.
type Finding struct {
	Severity Severity `json:"severity"`
	PFS      string   `json:"pfs,omitempty"`    // label
	Path     string   `json:"path,omitempty"`   // below the PFS, of one of the inode's names
	Inum     uint64   `json:"inum,omitempty"`   // inode it is about
	Key      uint64   `json:"key,omitempty"`    // first key it is about
	Off      uint64   `json:"offset,omitempty"` // logical address of the block
	What     string   `json:"what"`
	Remedy   string   `json:"remedy,omitempty"`

	resolve bool // the path of Inum is worth finding
}

// String is one line for people.
func (f Finding) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v: ", f.Severity)
	if f.PFS != "" {
		fmt.Fprintf(&b, "%s: ", f.PFS)
	}
	switch {
	case f.Path != "":
		fmt.Fprintf(&b, "%s (inode %d): ", f.Path, f.Inum)
	case f.Inum != 0:
		fmt.Fprintf(&b, "inode %d: ", f.Inum)
	}
	b.WriteString(f.What)
	if f.Remedy != "" {
		fmt.Fprintf(&b, " [%s]", f.Remedy)
	}
	return b.String()
}

// A HeaderReport is one header slot.
type HeaderReport struct {
	Slot      int        `json:"slot"` // -1 = the spare copy in block 63
	Offset    int64      `json:"offset"`
	MirrorTid ondisk.Tid `json:"mirror_tid"`
	InUse     bool       `json:"in_use"`
	Err       string     `json:"error,omitempty"`
}

// A PFSReport counts what is in one PFS.
type PFSReport struct {
	Label      string `json:"label"`
	Inodes     uint64 `json:"inodes"`
	Entries    uint64 `json:"entries"`
	Orphans    uint64 `json:"orphans"`    // inodes that nothing names, with link count 0
	Attributes uint64 `json:"attributes"` // attribute inodes
	Unreadable uint64 `json:"unreadable"` // tables and inodes
}

// Counts are sums over the volume; shared blocks count once.
type Counts struct {
	Blocks      [8]uint64 `json:"-"`      // by block type
	Tables      uint64    `json:"tables"` // indirect blocks
	Inodes      uint64    `json:"inodes"`
	DataBlocks  uint64    `json:"data_blocks"`
	Bytes       uint64    `json:"bytes"`
	Reachable   uint64    `json:"reachable_bytes"` // in whole chunks
	Unreachable uint64    `json:"unreachable_bytes"`
	Staged      uint64    `json:"staged_bytes"`
	Free        uint64    `json:"free_bytes"`
}

// A Report is the outcome of a check.
type Report struct {
	Device   string         `json:"device"`
	Fsid     ondisk.UUID    `json:"-"`
	Foreign  bool           `json:"foreign"` // another implementation wrote last
	Headers  []HeaderReport `json:"headers"`
	PFSs     []PFSReport    `json:"pfss"`
	Counts   Counts         `json:"counts"`
	Findings []Finding      `json:"findings"` // the first Options.MaxFindings
	Errors   int            `json:"errors"`   // of all findings
	Warnings int            `json:"warnings"`
	Infos    int            `json:"infos"`
	Logged   int            `json:"logged"` // txgs in the intent log that are not in the tree
	Took     time.Duration  `json:"took_ns"`

	// Fixes are what is certain to put names and inodes right, in the order to
	// make them; at most Options.MaxFindings. A PFS of which something cannot
	// be read has none.
	Fixes []Fix `json:"-"`
	// Freemap and Slots say that a freemap made up from the tree, or writing all
	// header slots anew, puts something right.
	Freemap bool `json:"-"`
	// LogDamaged: not all of the intent log can be applied.
	LogDamaged bool `json:"-"`
	Slots      bool `json:"-"`
}

// Clean reports whether nothing needs attention: infos do not count.
func (r *Report) Clean() bool { return r.Errors == 0 && r.Warnings == 0 }

// Worst is the highest severity found; ok is false without any finding.
func (r *Report) Worst() (worst Severity, ok bool) {
	switch {
	case r.Errors > 0:
		return Error, true
	case r.Warnings > 0:
		return Warning, true
	}
	return Info, r.Infos > 0
}

// A collector fills a Report from many goroutines.
type collector struct {
	mu  sync.Mutex // guards rep
	rep *Report
	max int
}

func (c *collector) add(f Finding) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch f.Severity {
	case Error:
		c.rep.Errors++
	case Warning:
		c.rep.Warnings++
	default:
		c.rep.Infos++
	}
	if f.Severity > Info {
		c.rep.Freemap = c.rep.Freemap || f.Remedy == remedyMark
		c.rep.Slots = c.rep.Slots || f.Remedy == remedyHeader
	}
	if len(c.rep.Findings) < c.max {
		c.rep.Findings = append(c.rep.Findings, f)
	}
}
