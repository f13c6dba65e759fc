package layout

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/anvilfs/anvilfs/cmd/advice"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A Level is how much a finding matters.
type Level string

// The levels, best first.
const (
	Info    Level = "info"    // a fact, nothing wrong with it
	Note    Level = "note"    // could be better
	Warning Level = "warning" // tolerates less than it seems to
)

var badness = map[Level]int{Info: 0, Note: 1, Warning: 2}

// A Finding is one thing about a layout, with what to do about it.
type Finding struct {
	Level  Level  `json:"level"`
	What   string `json:"what"`             // a sentence
	Remedy string `json:"remedy,omitempty"` // a command
}

// A Member is one copy and where it lies.
type Member struct {
	Name  string
	Role  string // as ondisk.PFSType says it
	Room  uint64 // bytes that blocks can be in, as chain.Space counts them; 0 = not known
	Place Place
}

// A Place is what a member is lost with.
type Place struct {
	Disks []string // names of whole disks, as the kernel has them; nil: not known
	File  bool     // it is a file on a filesystem there, or a loop device on one
}

// slackPercent is how much masters may differ in size without a word.
const slackPercent = 5

// Judge is what there is to say of members, the worst first. dir is the mount
// point; size prints bytes.
func Judge(members []Member, dir string, size func(uint64) string) []Finding {
	j := &judge{dir: advice.Quote(dir), size: size}
	for _, m := range members {
		switch m.Role {
		case "master":
			j.masters = append(j.masters, m)
		case "slave":
			j.slaves = append(j.slaves, m)
		default:
			j.others = append(j.others, m)
		}
	}
	if len(j.masters) == 0 {
		return nil
	}
	j.shared()
	j.beside()
	j.votes()
	j.sizes()
	slices.SortStableFunc(j.list, func(a, b Finding) int { return cmp.Compare(badness[b.Level], badness[a.Level]) })
	return j.list
}

type judge struct {
	dir                     string
	size                    func(uint64) string
	masters, slaves, others []Member
	list                    []Finding
}

func (j *judge) add(l Level, what, remedy string) {
	j.list = append(j.list, Finding{l, what, remedy})
}

func (j *judge) node(verb, name, rest string) string {
	return "anvilfs node " + verb + " " + j.dir + " " + advice.Quote(name) + rest
}

// larger is the command by which a member gets more space. A device that another
// follows has some GiBs.
func (j *judge) larger(m Member) string {
	if m.Room < ondisk.ZoneSize {
		return j.node("replace", m.Name, " LARGER-DEVICE")
	}
	return j.node("grow", m.Name, " --add DEVICE") + "   (or " + j.node("replace", m.Name, " LARGER-DEVICE") + ")"
}

// on are the members of a list that lie on a disk.
func on(list []Member, disk string) (got []Member) {
	for _, m := range list {
		if slices.Contains(m.Place.Disks, disk) {
			got = append(got, m)
		}
	}
	return got
}

func disksOf(list []Member) (disks []string) {
	for _, m := range list {
		disks = append(disks, m.Place.Disks...)
	}
	slices.Sort(disks)
	return slices.Compact(disks)
}

// and lists names: a, b and c.
func and(list []Member) string {
	names := make([]string, len(list))
	for i := range list {
		names[i] = list[i].Name
	}
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}

// shared finds masters that are lost together.
func (j *judge) shared() {
	n := len(j.masters)
	need := n/2 + 1
	told := make(map[string]bool)
	for _, disk := range disksOf(j.masters) {
		together := on(j.masters, disk)
		if len(together) < 2 || told[and(together)] {
			continue
		}
		told[and(together)] = true
		if !slices.ContainsFunc(together, func(m Member) bool { return !m.Place.File }) {
			j.add(Info, fmt.Sprintf("%s are files on one disk (%s), and are lost with it.", and(together), disk), "")
			continue
		}
		what := fmt.Sprintf("%s are on one disk (%s): ", and(together), disk)
		switch left := n - len(together); {
		case left == 0:
			what += "if it is lost, all is lost."
		case left < need:
			what += "if it is lost, changes stop."
		case left == need:
			what += "if it is lost, no other master may be."
		case left == need+1:
			what += "if it is lost, 1 more master may be."
		default:
			what += fmt.Sprintf("if it is lost, %d more masters may be.", left-need)
		}
		j.add(Warning, what, j.node("replace", together[len(together)-1].Name, " DEVICE-ON-ANOTHER-DISK"))
	}
}

// beside finds copies without a vote that are lost with a master.
func (j *judge) beside() {
	for _, m := range slices.Concat(j.slaves, j.others) {
		for _, disk := range m.Place.Disks {
			with := on(j.masters, disk)
			if len(with) == 0 {
				continue
			}
			what, level := fmt.Sprintf("%s is on the disk of %s (%s): it is lost with it.", m.Name, and(with), disk), Note
			if m.Role == "cache" {
				what = fmt.Sprintf("%s is a cache on the disk of %s (%s): reads are no quicker by it.", m.Name, and(with), disk)
			}
			if m.Place.File {
				level = Info
			}
			j.add(level, what, "")
			break
		}
	}
}

// votes finds numbers of masters that could tolerate more.
func (j *judge) votes() {
	n := len(j.masters)
	if n%2 != 0 {
		return
	}
	if len(j.slaves) > 0 {
		what := fmt.Sprintf("%s follows without a vote: as a master it would let %d of %d masters fail, not %d.",
			j.slaves[0].Name, n/2, n+1, n/2-1)
		j.add(Note, what, j.node("promote", j.slaves[0].Name, ""))
		return
	}
	if n > 2 {
		j.add(Note, fmt.Sprintf("%d masters tolerate the loss of %d, as %d do: one more would let %d fail.", n, n/2-1, n-1, n/2),
			"anvilfs node add "+j.dir+" DEVICE")
	}
}

// sizes finds space that cannot be used, since a smaller master bounds it.
func (j *judge) sizes() {
	if slices.ContainsFunc(j.masters, func(m Member) bool { return m.Room == 0 }) {
		return
	}
	least := slices.MinFunc(j.masters, func(a, b Member) int { return cmp.Compare(a.Room, b.Room) })
	var small, large []Member
	unused := uint64(0)
	for _, m := range j.masters {
		if !differ(m.Room, least.Room) {
			small = append(small, m)
			continue
		}
		large = append(large, m)
		unused += m.Room - least.Room
	}
	more := and(large) + " has room for " + j.size(unused) + " more, which is not used."
	if len(large) > 1 {
		more = and(large) + " together have room for " + j.size(unused) + " more, which is not used."
	}
	switch {
	case len(large) == 0:
	case len(small) == 1:
		j.add(Note, least.Name+" is the smallest master and bounds the space: "+more, j.larger(least))
	default:
		j.add(Note, and(small)+" are the smallest masters and bound the space: "+more, "")
	}
	for _, m := range j.slaves {
		if m.Room != 0 && m.Room < least.Room && differ(least.Room, m.Room) {
			j.add(Note, fmt.Sprintf("%s is smaller than the masters: it does not follow any more once it is full.", m.Name),
				j.larger(m))
		}
	}
}

// differ reports whether two sizes are worth a word, the larger one first.
func differ(a, b uint64) bool { return a-b > a*slackPercent/100 }
