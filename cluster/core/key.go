package core

import (
	"fmt"

	"github.com/anvilfs/anvilfs/ondisk"
)

// AppendKey appends a text that is equal for nodes that will behave the same,
// as far as clocks and leases do not matter. It is for explorers of states.
func (n *Node) AppendKey(b []byte) []byte {
	b = fmt.Appendf(b, "n%v@%v+%x", n.dur.Promised, n.dur.Pos, n.dur.Acked)
	if j := n.job; j != nil {
		b = fmt.Appendf(b, " job%v,%d", j.Ballot, j.from)
		if j.Txg != nil {
			b = fmt.Appendf(b, ",%v+%x", j.Txg.Pos, j.Txg.Acked)
		}
	}
	for _, r := range []*request{n.want, n.next} {
		if r != nil {
			b = r.msg.AppendKey(fmt.Appendf(b, " %d:", r.from))
		}
	}
	if n.broken {
		b = append(b, " broken"...)
	}
	return b
}

// AppendKey is the same for a primary.
func (p *Primary) AppendKey(b []byte) []byte {
	b = fmt.Appendf(b, "p%d %v %d %v %v %v %v", p.phase, p.ballot, p.heard, p.head, p.base, p.done, p.deadline > 0)
	if p.flight != nil {
		b = append(b, " flight"...)
	}
	for i := range p.peers {
		n := &p.peers[i]
		b = fmt.Appendf(b, "|%v %v %v %v %v", n.attached, n.flags, n.vote, n.pos, n.behind)
		if n.out != nil {
			b = fmt.Appendf(b, " %v", n.out.Pos)
		}
		if n.answer != nil && p.phase < Barrier {
			b = fmt.Appendf(b, " %v+%x", n.answer.Pos, n.answer.Acked)
		}
	}
	return b
}

// AppendKey is the same for a message.
func (m *Message) AppendKey(b []byte) []byte {
	b = fmt.Appendf(b, "%v %x%v %v %d %v", m.Kind, m.Node[0], m.Ballot, m.Pos, m.Heard, m.Yes)
	if m.Txg != nil {
		b = fmt.Appendf(b, " %v<%v+%x %v", m.Txg.Pos, m.Txg.Prev, m.Txg.Acked, m.Whole)
	}
	if m.Answer != nil {
		b = fmt.Appendf(b, " %v+%x %d", m.Answer.Pos, m.Answer.Acked, m.Answer.Promised)
	}
	return b
}

// A Naming says how an explorer calls what is in a state, so that states that
// differ only in who is who have one text under some naming of each.
type Naming interface {
	Node(ondisk.UUID) byte // 0 to n-1
	Primary(from int) byte
	Candidate(cand uint64) byte
	Acked(mask uint64) byte // of masters, by their place in the configuration
}

// A T stands for its position: within one history there is only one.
func appendT(b []byte, T ondisk.Tid) []byte { return append(b, byte(T.Epoch()), byte(T.Seq())) }

func appendBallot(b []byte, x Ballot, by Naming) []byte {
	return append(b, byte(x.Epoch), by.Candidate(x.Cand))
}

func appendBools(b []byte, set ...bool) []byte {
	x := byte(0)
	for i, on := range set {
		if on {
			x |= 1 << i
		}
	}
	return append(b, x)
}

// AppendNamed is AppendKey under names; small numbers are enough for it.
func (n *Node) AppendNamed(b []byte, by Naming) []byte {
	b = appendBallot(appendT(b, n.dur.Pos.T), n.dur.Promised, by)
	b = append(b, by.Acked(n.dur.Acked))
	b = appendBools(b, n.job != nil, n.want != nil, n.next != nil, n.broken)
	if j := n.job; j != nil {
		b = appendTxg(append(appendBallot(b, j.Ballot, by), by.Primary(j.from)), j.Txg, by)
		b = appendBools(appendT(b, j.reported.T), j.Whole)
	}
	for _, r := range []*request{n.want, n.next} {
		if r != nil {
			b = r.msg.AppendNamed(append(b, by.Primary(r.from)), by)
		}
	}
	return b
}

func appendTxg(b []byte, x *Txg, by Naming) []byte {
	if x == nil {
		return append(b, 0)
	}
	return append(appendT(appendT(append(b, 1), x.Pos.T), x.Prev.T), by.Acked(x.Acked))
}

// AppendNamed is the same for a primary.
func (p *Primary) AppendNamed(b []byte, by Naming) []byte {
	b = append(appendBallot(append(b, byte(p.phase)), p.ballot, by), byte(p.heard))
	b = appendT(appendT(appendT(b, p.head.T), p.base.T), p.done.T)
	b = appendBools(b, p.deadline > 0, p.flight != nil)
	for _, x := range p.window {
		b = appendTxg(b, x, by)
	}
	b = append(b, 0)
	for name := range p.peers {
		for i := range p.peers {
			if n := &p.peers[i]; int(by.Node(n.id)) == name {
				b = p.appendPeer(b, n, by)
			}
		}
	}
	return b
}

func (p *Primary) appendPeer(b []byte, n *peer, by Naming) []byte {
	early := n.answer != nil && p.phase < Barrier
	b = appendBools(append(appendT(b, n.pos.T), byte(n.flags)), n.attached, n.vote, n.behind, early)
	b = appendTxg(b, n.out, by)
	if early {
		b = append(appendT(b, n.answer.Pos.T), by.Acked(n.answer.Acked))
	}
	if p.phase >= Barrier {
		if m, ok := p.charter.Config.Member(n.id); ok {
			b = appendT(b, m.Acked)
		}
	}
	return b
}

// AppendNamed is the same for a message.
func (m *Message) AppendNamed(b []byte, by Naming) []byte {
	b = appendBallot(append(b, byte(m.Kind), by.Node(m.Node)), m.Ballot, by)
	b = appendTxg(append(appendT(b, m.Pos.T), byte(m.Heard)), m.Txg, by)
	b = appendBools(b, m.Yes, m.Whole, m.Answer != nil)
	if m.Answer != nil {
		b = append(appendT(b, m.Answer.Pos.T), by.Acked(m.Answer.Acked), byte(m.Answer.Promised))
	}
	return b
}
