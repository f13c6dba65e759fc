package sim

import (
	"slices"

	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
)

// States that differ only in who is who are one. Nodes of a role and primaries are equal
// at the start, and nothing goes by their order: of all ways to name them the
// one with the lowest hash stands for the state. Three more things cost no
// behaviour:
//
//   - a position is called by its T: what it consists of is in the list of what
//     was sent, where two of one T are a violation;
//   - a primary that is over for good is no part of the state;
//   - a message that nobody will heed any more is none either. One that is not
//     delivered yet may stay so for ever, so that a loss leads nowhere new.

// And of the orders of events not all are tried. An event is at one node or one
// primary. If nobody else can notice it, as when a job begins or a vote is noted
// that does not suffice yet, it may as well have come later: just before the
// next event there. So only such orders are visited in which that one follows.

// A process is a node, a primary, or nobody: 0.
type process int

func nodeProcess(i int) process { return process(i + 1) }
func primProcess(i int) process { return process(-i - 1) }

// do lets an event happen, and checks what must hold after each.
func (r *runner) do(a action) {
	r.s.focus = 0
	a.run(r)
	r.prune()
	r.holds()
	if !r.heard && !r.x.scope.Plain {
		r.s.focus = a.at
	}
}

// A naming is one way to call nodes, primaries and candidates.
type naming struct {
	node  []byte // by index
	prim  []byte // by index
	cands map[uint64]cand
}

type cand struct {
	prim    int
	attempt byte
}

var _ core.Naming = (*naming)(nil)

func (n *naming) Node(id ondisk.UUID) byte { return n.node[id[0]-1] }
func (n *naming) Primary(i int) byte       { return n.prim[i] }

func (n *naming) Candidate(x uint64) byte {
	c, ok := n.cands[x]
	if !ok {
		return 0 // of the founder
	}
	return 1 + n.prim[c.prim]<<4 | c.attempt
}

func (n *naming) Acked(mask uint64) byte {
	b := byte(0)
	for i, name := range n.node {
		b |= byte(mask>>i&1) << name
	}
	return b
}

// namings are all there are: masters are equal, and so are soft ones.
func namings(masters, soft, prims int) []*naming {
	var out []*naming
	cands := make(map[uint64]cand)
	var nodes [][]byte
	for _, m := range orders(masters) {
		for _, o := range orders(soft) {
			all := slices.Clone(m)
			for _, name := range o {
				all = append(all, byte(masters)+name)
			}
			nodes = append(nodes, all)
		}
	}
	for _, n := range nodes {
		for _, p := range orders(prims) {
			out = append(out, &naming{n, p, cands})
		}
	}
	return out
}

// orders are the permutations of 0 to n-1.
func orders(n int) [][]byte {
	if n == 0 {
		return [][]byte{nil}
	}
	var out [][]byte
	for _, o := range orders(n - 1) {
		for i := range n {
			out = append(out, slices.Insert(slices.Clone(o), i, byte(n-1)))
		}
	}
	return out
}

// key is the same for states that are equal but for names.
func (x *explorer) key(s *state) uint64 {
	names := x.names
	if x.scope.Plain {
		names = names[:1]
	}
	low := ^uint64(0)
	for _, by := range names {
		low = min(low, x.keyBy(s, by))
	}
	return low
}

// outcome is the key of what is left when processes and messages are gone.
func (x *explorer) outcome(s *state) uint64 {
	low := ^uint64(0)
	for _, by := range x.names {
		h := hasher{b: x.buf}
		x.disks(&h, s, by)
		x.history(&h, s, by)
		low, x.buf = min(low, h.sum), h.b
	}
	return low
}

// A hasher adds up hashes of parts, so that their order does not matter.
type hasher struct {
	b   []byte // of the part
	sum uint64
}

func (h *hasher) end() {
	x := uint64(0xcbf29ce484222325)
	for _, c := range h.b {
		x = (x ^ uint64(c)) * 0x100000001b3
	}
	h.sum += mix(x, uint64(len(h.b)))
	h.b = h.b[:0]
}

func (x *explorer) keyBy(s *state, by *naming) uint64 {
	h := hasher{b: x.buf}
	x.disks(&h, s, by)
	for i := range s.nodes {
		h.b = s.nodes[i].core.AppendNamed(append(h.b, 'n', by.node[i]), by)
		if s.focus == nodeProcess(i) {
			h.b = append(h.b, 'f')
		}
		h.end()
	}
	for i := range s.prims {
		p := &s.prims[i]
		h.b = append(h.b, 'p', by.prim[i])
		if !s.dead(i, &x.scope) {
			h.b = append(p.core.AppendNamed(h.b, by), byte(p.campaigns), byte(p.proposals))
			if p.over {
				h.b = append(h.b, 'o')
			}
			if s.focus == primProcess(i) {
				h.b = append(h.b, 'f')
			}
		}
		h.end()
	}
	for i := range s.msgs {
		m := &s.msgs[i]
		h.b = append(h.b, 'm', by.prim[m.p])
		if m.toNode {
			h.b = append(h.b, '>')
		}
		h.b = m.msg.AppendNamed(h.b, by)
		h.end()
	}
	h.b = append(h.b, 'c', byte(s.crashes), byte(s.losses))
	h.end()
	x.history(&h, s, by)
	x.buf = h.b
	return h.sum
}

func (x *explorer) disks(h *hasher, s *state, by *naming) {
	for i := range s.nodes {
		n := &s.nodes[i]
		h.b = append(h.b, 'd', by.node[i], byte(n.disk.Promised.Epoch), by.Candidate(n.disk.Promised.Cand))
		h.b = append(appendT(h.b, n.disk.Pos.T), by.Acked(n.disk.Acked), byte(n.promise))
		h.end()
	}
}

// history is what was sent, and the last that was committed of it.
func (x *explorer) history(h *hasher, s *state, by *naming) {
	b := appendT(append(h.b, 's'), s.top.T)
	for _, pos := range s.sent {
		b = appendT(appendT(b, pos.T), x.check.prev[pos].T)
		if c := x.check.charter[pos]; c != nil {
			at := len(b)
			b = append(b, make([]byte, 2*len(s.nodes))...)
			for _, m := range c.Config.Members {
				k := at + 2*int(by.Node(m.Fsid))
				b[k], b[k+1] = byte(m.Acked.Epoch()), byte(m.Acked.Seq())
			}
		}
	}
	h.b = b
	h.end()
}

func appendT(b []byte, T ondisk.Tid) []byte { return append(b, byte(T.Epoch()), byte(T.Seq())) }

// dead reports whether a primary does nothing any more.
func (s *state) dead(i int, in *Scope) bool {
	return s.prims[i].over && s.prims[i].campaigns == in.Campaigns
}

// unheeded reports whether a message to a node leads to nothing, now or later:
// the disk has promised more, and the answer would go to nobody. Whether the
// node agrees is asked, not assumed: rules may be left out.
func (s *state) unheeded(m *smsg) bool {
	n, p := &s.nodes[m.n], &s.prims[m.p]
	had, b := n.disk.Promised, m.msg.Ballot
	older := b.Epoch < had.Epoch || b.Epoch == had.Epoch && b.Cand != had.Cand
	if !older || !p.over && b == p.core.Ballot() {
		return false
	}
	c := n.core.Clone()
	before := c.AppendKey(nil)
	for _, e := range c.Step(0, core.Recv{From: m.p, Msg: m.msg}) {
		if _, ok := e.(core.Send); !ok {
			return false
		}
	}
	return slices.Equal(before, c.AppendKey(nil))
}
