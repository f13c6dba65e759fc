package core

import (
	"errors"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
)

func (p *Primary) attach(now time.Duration, a Answer) []Effect {
	n := p.addPeer(a.Node)
	*n = peer{id: a.Node, attached: true, answer: &a, pos: a.Pos, flags: a.Flags, acked: n.acked, refused: n.refused}
	p.hear(a.Flags, max(a.Promised, a.Pos.T.Epoch()))
	switch p.phase {
	case PreVoting:
		return []Effect{p.send(now, n, &Message{Kind: PreVote})}
	case Promising:
		return []Effect{p.send(now, n, &Message{Kind: Promise})}
	case Barrier, Serving:
		if a.Promised > p.ballot.Epoch && a.Flags == 0 {
			return p.lose(now, a.Promised)
		}
		return p.feedAndCount(now, n)
	}
	return nil
}

// hear takes note of an epoch that is in use. A node that gives no vote is not
// listened to: what it says may be damage, and where a quorum has promised an
// epoch, one of its clean members says so.
func (p *Primary) hear(flags Flags, epoch uint32) {
	if flags == 0 {
		p.heard = max(p.heard, epoch)
	}
}

func (p *Primary) detach(id ondisk.UUID) []Effect {
	if n := p.peer(id); n != nil {
		*n = peer{id: id, answer: n.answer, pos: n.pos, flags: n.flags, acked: n.acked, refused: n.refused}
	}
	return nil
}

// campaign asks first whether a quorum would promise: epochs are not burned
// by those who cannot win.
func (p *Primary) campaign(now time.Duration) []Effect {
	p.phase = PreVoting
	p.attempt++
	p.flight, p.window, p.kept, p.inForce = nil, nil, 0, nil
	p.quorum = false
	p.ballot = Ballot{p.heard, p.candidate()}
	p.deadline = 0
	return p.ask(now, PreVote)
}

// ask sends a question to all nodes and forgets earlier votes.
func (p *Primary) ask(now time.Duration, k Kind) []Effect {
	var out []Effect
	p.resend = now + p.opt.Retry
	for i := range p.peers {
		n := &p.peers[i]
		n.vote, n.out, n.behind, n.hasBeat, n.acked = false, nil, false, false, 0
		if n.attached {
			out = append(out, p.send(now, n, &Message{Kind: k}))
		}
	}
	return out
}

func (p *Primary) preVoted(now time.Duration, n *peer, m *Message) []Effect {
	p.hear(n.flags|m.Answer.Flags, max(m.Heard, m.Answer.Pos.T.Epoch()))
	if p.phase != PreVoting || m.Ballot != p.ballot || !n.attached {
		return nil
	}
	n.answer, n.vote = m.Answer, m.Yes
	if _, err := Adopt(p.votes(), p.opt.Omit); err != nil {
		return p.cannot(err)
	}
	return p.promise(now)
}

// votes are the answers of those who said yes in this phase.
func (p *Primary) votes() []Answer {
	var as []Answer
	for i := range p.peers {
		if n := &p.peers[i]; n.attached && n.vote {
			a := *n.answer
			if p.opt.Omit&OmitAcked != 0 {
				a.Acked = 0
			}
			as = append(as, a)
		}
	}
	return as
}

// cannot tells what stands in the way. A lack of answers is waited out,
// a conflict is not.
func (p *Primary) cannot(err error) []Effect {
	var few *NoQuorum
	if errors.As(err, &few) {
		return []Effect{Waiting{err}}
	}
	p.phase = Stopped
	return []Effect{Refuse{err}}
}

// ErrEpochs: the epochs have come to an end, which elections do not bring about.
var ErrEpochs = errors.New("no epoch is left: some member's cluster state is damaged")

func (p *Primary) promise(now time.Duration) []Effect {
	if p.heard >= LastEpoch {
		return p.cannot(ErrEpochs)
	}
	p.phase = Promising
	p.ballot = Ballot{p.heard + 1, p.candidate()}
	p.heard = p.ballot.Epoch
	p.deadline = 0
	return p.ask(now, Promise)
}

func (p *Primary) promised(now time.Duration, n *peer, m *Message) []Effect {
	if p.phase != Promising || m.Ballot != p.ballot || !n.attached || n.vote {
		return nil
	}
	n.answer, n.vote, n.pos, n.flags = m.Answer, true, m.Answer.Pos, m.Answer.Flags
	if _, err := Adopt(p.votes(), p.opt.Omit); err != nil {
		return p.cannot(err)
	}
	for i := range p.peers {
		if o := &p.peers[i]; o.attached && !o.vote {
			if p.deadline == 0 {
				p.deadline = now + p.opt.Wait
			}
			return nil
		}
	}
	return p.decide(now)
}

// decide adopts a state and builds the barrier on it.
func (p *Primary) decide(now time.Duration) []Effect {
	votes := p.votes()
	a, err := Adopt(votes, p.opt.Omit)
	if err != nil {
		p.deadline = 0 // a node that had promised was attached anew: it is asked again
		return p.cannot(err)
	}
	for i := range p.peers {
		n := &p.peers[i]
		if n.vote && n.flags == 0 && (LostWrites(*n.answer, votes) || Disowned(*n.answer, votes)) {
			n.flags = Tainted
		}
		n.acked = max(n.acked, sawAll(votes, n.id))
	}
	p.base, p.head, p.done, p.proven = a.Pos, a.Pos, a.Pos, min(provenBy(votes), a.Pos.T)
	p.charter, p.baseOf = a.Charter, a.Charter
	p.deadline = 0
	if p.opt.Solo {
		return p.open()
	}
	c := p.barrierCharter(a)
	p.phase = Barrier
	out := p.start(now, c, nil)
	if p.opt.Omit&OmitBarrier != 0 {
		p.phase = Serving
		out = append(out, Serve{p.done})
	}
	return out
}

// barrierCharter adds the epoch to the lineage, and what the members said is
// durable there, so that one that later has less is found out. Only what was
// committed is noted: if the barrier comes to nothing, another primary may
// rightly take a node back behind the rest.
func (p *Primary) barrierCharter(a *Adopted) *Charter {
	c := &Charter{*a.Charter.Config.Clone(), *a.Charter.Lineage.WithEpoch(p.ballot.Epoch, a.Pos), a.Charter.Ops}
	c.Lineage.Epochs[len(c.Lineage.Epochs)-1].Cand = p.ballot.mark()
	proven := a.Charter.Lineage.proves(a.Pos)
	for _, set := range [][]Member{c.Config.Members, c.Config.Joint} {
		for i := range set {
			m := &set[i]
			n := p.peer(m.Fsid)
			if n == nil || !n.vote || n.flags != 0 {
				continue
			}
			m.Incarnation = n.answer.Incarnation
			if n.answer.Charter != nil && c.Lineage.ContainsPos(Position{T: ondisk.MakeTid(p.ballot.Epoch, 0)}, n.pos) {
				m.Acked = max(m.Acked, min(n.pos.T, proven))
			}
		}
	}
	return c
}

func (p *Primary) open() []Effect {
	p.phase = Serving
	return []Effect{Serve{p.done}}
}

// lose gives up the epoch: somebody promised a higher one.
func (p *Primary) lose(now time.Duration, heard uint32) []Effect {
	p.heard = max(p.heard, heard)
	out := []Effect{Lost{p.heard}}
	out = append(out, p.campaign(now)...)
	return out
}

func (p *Primary) refused(now time.Duration, n *peer, m *Message) []Effect {
	p.hear(n.flags, m.Heard)
	if n.flags != 0 || p.phase != Promising || m.Ballot != p.ballot {
		return nil
	}
	if m.Heard >= p.ballot.Epoch {
		p.backOff(now)
	}
	return nil
}

// backOff starts over after a while that differs between candidates, so that
// two of them do not go on displacing each other.
func (p *Primary) backOff(now time.Duration) {
	p.campaign(now)
	p.resend = now + p.opt.Retry + time.Duration(p.ballot.Cand%16)*p.opt.Retry/8
}

func (p *Primary) tick(now time.Duration) []Effect {
	switch p.phase {
	case PreVoting:
		if now >= p.resend {
			return p.campaign(now)
		}
	case Promising:
		if p.deadline > 0 && now >= p.deadline {
			return p.decide(now)
		}
		if now >= p.resend {
			return p.askAgain(now)
		}
	case Barrier, Serving:
		return p.keepGoing(now)
	}
	return nil
}

func (p *Primary) askAgain(now time.Duration) []Effect {
	var out []Effect
	p.resend = now + p.opt.Retry
	for i := range p.peers {
		if n := &p.peers[i]; n.attached && !n.vote {
			out = append(out, p.send(now, n, &Message{Kind: Promise}))
		}
	}
	return out
}
