package merge

// A State is what became of an inode since base.
type State uint8

// The states of an inode.
const (
	Absent State = iota
	Same
	Changed
)

// A Verdict is what an item comes to.
type Verdict uint8

// The verdicts.
const (
	Nothing Verdict = iota // there is nothing to be done
	Apply                  // the cluster gets what the branch has
	Beside                 // what the branch has is stored beside what the cluster has
	Keep                   // what the cluster has stays, although the branch removed it
)

var verdictNames = [...]string{"nothing", "apply", "beside", "keep"}

func (v Verdict) String() string { return verdictNames[v] }

// Content decides about an inode of base. equal says that both sides have the
// same now; minor, that the branch changed nothing but its times.
func Content(ours, theirs State, equal, minor bool) Verdict {
	switch {
	case ours == Same, ours == Absent && theirs != Changed:
		return Nothing // that it is gone is an item of its names
	case ours == Absent:
		return Keep
	case theirs == Same:
		return Apply
	case equal, minor:
		return Nothing
	}
	return Beside
}

// Name decides about a name by what it leads to: numbers of inodes as the
// cluster has them, 0 for nothing. loses says that what the cluster has there
// holds changes of its own, which would go with the name; alike, that both sides
// made the same there.
func Name(base, ours, theirs uint64, loses, alike bool) Verdict {
	switch {
	case ours == base, ours == theirs, alike:
		return Nothing
	case theirs == base && !loses:
		return Apply
	case theirs == base && ours == 0:
		return Keep
	case ours == 0:
		return Nothing // they put something else there
	}
	return Beside
}
