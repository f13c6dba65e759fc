package core

import "fmt"

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
