package cluster

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
)

var tableRoles = map[byte]ondisk.PFSType{
	'M': ondisk.PFSMaster, 'S': ondisk.PFSSlave, 's': ondisk.PFSSoftSlave, 'm': ondisk.PFSSoftMaster, 'C': ondisk.PFSCache,
}

// TestResolve runs testdata/resolve.txt. A case is
//
//	resolve 7 (M7 M9 M5 S7! M_)
//
// with the last committed sequence and the nodes: role (M master, S slave, m
// soft master, s soft slave, C cache) and position; _ is absent, ! has an
// error, ~ is tainted, @2 answers reads in 2 ms (1 unless given).
func TestResolve(t *testing.T) {
	runTable(t, "resolve.txt", func(in string) string {
		var committed uint32
		var list string
		head, list, _ := strings.Cut(strings.TrimSuffix(in, ")"), "(")
		if _, err := fmt.Sscanf(head, "resolve %d", &committed); err != nil {
			t.Fatalf("case %q: %v", in, err)
		}
		c := &Config{Version: 1}
		var nodes []ResolveNode
		for i, s := range strings.Fields(list) {
			n := ResolveNode{Fsid: tableNode(i), Present: true, Latency: time.Millisecond}
			if role, ok := tableRoles[s[0]]; ok {
				c.Members = append(c.Members, Member{Fsid: n.Fsid, Role: role})
			}
			rest, lat, ok := strings.Cut(s[1:], "@")
			if ok {
				var ms int
				fmt.Sscan(lat, &ms)
				n.Latency = time.Duration(ms) * time.Millisecond
			}
			n.Present = !strings.Contains(rest, "_")
			n.Err = strings.Contains(rest, "!")
			n.Taint = strings.Contains(rest, "~")
			var seq uint32
			fmt.Sscan(strings.TrimRight(rest, "!~_"), &seq)
			n.Position.T = ondisk.MakeTid(5, seq)
			nodes = append(nodes, n)
		}
		r := Resolve(c, Position{T: ondisk.MakeTid(5, committed)}, nodes)
		focus := "none"
		if r.Focus >= 0 {
			focus = fmt.Sprint(r.Focus)
		}
		var verdicts []string
		for _, v := range r.Verdicts {
			verdicts = append(verdicts, string(v))
		}
		return fmt.Sprintf("%v focus=%s\n%s", r.Flags, focus, strings.Join(verdicts, " "))
	})
}
