package cluster

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
)

// TestAdopt runs testdata/adopt.txt. A case is
//
//	adopt [masters=0,1,2] [joint=0,1,3] (7, 4:60, _, 9*)
//
// with one position per node, of epoch 5 unless given. _ is silent, * is
// foreign, ~ tainted, ' has another hash, J knows of the change of members
// (without a J in the case everybody does), ^ knows that node 0 acknowledged
// sequence 8, - is at a txg that was made when only node 0 and itself had the
// one before, where otherwise + says that node 0 had, and others did, ? led
// its epoch as another candidate. Epoch k was built on sequence 50 of the one
// before.
func TestAdopt(t *testing.T) {
	runTable(t, "adopt.txt", func(in string) string {
		a, err := Adopt(adoptCase(t, in))
		var clash *core.Conflict
		if errors.As(err, &clash) {
			return fmt.Sprintf("conflict: %d at %v, %d at %v", clash.A[0], clash.PosA.T, clash.B[0], clash.PosB.T)
		}
		if err != nil {
			return err.Error()
		}
		s := fmt.Sprint(a.Pos.T.Seq())
		if a.Pos.T.Epoch() != 5 {
			s = a.Pos.T.String()
		}
		for _, l := range []struct {
			name string
			ids  []ondisk.UUID
		}{{"holders", a.Holders}, {"ahead", a.Ahead}, {"behind", a.Behind}} {
			if len(l.ids) > 0 {
				s += " " + l.name + "=" + nodeList(l.ids)
			}
		}
		return s
	})
}

func nodeList(ids []ondisk.UUID) string {
	var s []string
	for _, id := range ids {
		s = append(s, strconv.Itoa(int(id[0])))
	}
	return strings.Join(s, ",")
}

func tableNode(i int) ondisk.UUID { return ondisk.UUID{0: byte(i), 15: 1} }

func tableSet(list string) []Member {
	var ms []Member
	for f := range strings.SplitSeq(list, ",") {
		i, _ := strconv.Atoi(f)
		ms = append(ms, Member{Fsid: tableNode(i), Role: ondisk.PFSMaster})
	}
	return ms
}

func adoptCase(t *testing.T, in string) []Answer {
	head, list, ok := strings.Cut(strings.TrimSuffix(in, ")"), "(")
	if !ok {
		t.Fatalf("case %q", in)
	}
	entries := strings.Split(list, ",")
	var all []string
	for i := range entries {
		all = append(all, strconv.Itoa(i))
	}
	plain := Config{Version: 1, Members: tableSet(strings.Join(all, ","))}
	var joint []Member
	for _, f := range strings.Fields(head) {
		if v, ok := strings.CutPrefix(f, "masters="); ok {
			plain.Members = tableSet(v)
		}
		if v, ok := strings.CutPrefix(f, "joint="); ok {
			joint = tableSet(v)
		}
	}
	var answers []Answer
	for i, s := range entries {
		s = strings.TrimSpace(s)
		if s == "_" {
			continue
		}
		c := plain
		if joint != nil && (strings.Contains(s, "J") || !strings.Contains(in[8:], "J")) {
			c = Config{Version: 2, Members: joint, Joint: plain.Members}
		}
		answers = append(answers, adoptAnswer(t, i, s, c))
	}
	return answers
}

func adoptAnswer(t *testing.T, i int, s string, c Config) Answer {
	a := Answer{Node: tableNode(i)}
	epoch, seq := "5", strings.TrimRight(s, "*~'J^+-?")
	if e, q, ok := strings.Cut(seq, ":"); ok {
		epoch, seq = e, q
	}
	e, err1 := strconv.Atoi(epoch)
	q, err2 := strconv.Atoi(seq)
	if err1 != nil || err2 != nil {
		t.Fatalf("position %q", s)
	}
	a.Pos.T = ondisk.MakeTid(uint32(e), uint32(q))
	if strings.Contains(s, "'") {
		a.Pos.H[0] = 1
	}
	if strings.Contains(s, "*") {
		a.Flags = core.Foreign
	}
	if strings.Contains(s, "~") {
		a.Flags = core.Tainted
	}
	law := &Charter{Config: *c.Clone()}
	if strings.Contains(s, "^") {
		law.Config.Members[0].Acked = ondisk.MakeTid(5, 8)
	}
	for k := 2; k <= e; k++ {
		law.Lineage = *law.Lineage.WithEpoch(uint32(k), Position{T: ondisk.MakeTid(uint32(k-1), 50)})
	}
	a.Acked = 1<<60 - 1<<40 // many others, of whom the case says nothing
	if strings.Contains(s, "+") {
		a.Acked |= 1
	}
	if strings.Contains(s, "-") {
		a.Acked = 1 | 1<<i
	}
	if marks := law.Lineage.Epochs; strings.Contains(s, "?") {
		marks[len(marks)-1].Cand = 2
	} else if len(marks) > 0 {
		marks[len(marks)-1].Cand = 1
	}
	a.Charter = law
	return a
}
