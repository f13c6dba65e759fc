package main

import (
	"fmt"
	"math"
	"math/rand"
	"strconv"
	"strings"
	"time"
)

const help = `eio read|write|flush [after N] [from BYTE to BYTE]
                     such requests fail, the first N excepted
delay MS             every request takes so much longer
hang                 no request returns
full                 writes find no room
lie                  flushes succeed and keep nothing
die                  every request fails: no power, no cable
cut                  die, and forget what was not flushed
tear SEED            as cut, but some of the unflushed sectors stay
flip BYTE            invert the bits of one byte on the media
ok                   everything works again
`

// command carries out one line. An error leaves the disk as it was.
func (d *disk) command(line string) error {
	words := strings.Fields(line)
	if len(words) == 0 {
		return fmt.Errorf("an empty command; there are:\n%s", help)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.changed.Broadcast()
	verb, rest := words[0], words[1:]
	switch verb {
	case "ok":
		d.faults = faults{}
	case "hang":
		d.faults.hang = true
	case "full":
		d.faults.full = true
	case "lie":
		d.faults.lie = true
	case "die":
		d.faults.dead = true
	case "cut":
		d.forget(func(int64) bool { return false })
	case "eio":
		return d.eio(rest)
	case "delay", "flip", "tear":
		if len(rest) != 1 {
			return fmt.Errorf("%s takes one number", verb)
		}
		n, err := strconv.ParseInt(rest[0], 0, 64)
		if err != nil {
			return err
		}
		return d.numbered(verb, n)
	default:
		return fmt.Errorf("no command %q; there are:\n%s", verb, help)
	}
	return nil
}

func (d *disk) numbered(verb string, n int64) error {
	switch verb {
	case "delay":
		d.faults.delay = time.Duration(n) * time.Millisecond
	case "tear":
		r := rand.New(rand.NewSource(n))
		d.forget(func(int64) bool { return r.Intn(2) == 0 })
	case "flip":
		var b [1]byte
		if _, err := d.image.ReadAt(b[:], n); err != nil {
			return err
		}
		b[0] ^= 0xff
		if _, err := d.image.WriteAt(b[:], n); err != nil {
			return err
		}
		if s := d.cache[n/sector]; s != nil {
			s[n%sector] ^= 0xff
		}
	}
	return nil
}

// forget is a power cut: of the unflushed sectors only those that keep picks,
// in the order of their numbers, are on the media.
func (d *disk) forget(keep func(sector int64) bool) {
	for s := range (d.size + sector - 1) / sector {
		if data := d.cache[s]; data != nil && keep(s) {
			_, _ = d.image.WriteAt(data, s*sector) // what fails to be kept is lost, as the rest
		}
	}
	clear(d.cache)
	d.cuts++
	d.faults = faults{dead: true}
}

// eio reads "KIND [after N] [from A to B]".
func (d *disk) eio(words []string) error {
	if len(words)%2 != 1 {
		return fmt.Errorf("eio takes read, write or flush, then pairs of words")
	}
	k, ok := kindNames[words[0]]
	if !ok {
		return fmt.Errorf("eio of %q: read, write and flush there are", words[0])
	}
	f := d.faults
	f.eio[k], f.after[k], f.from, f.to = true, 0, 0, math.MaxInt64
	for i := 1; i < len(words); i += 2 {
		n, err := strconv.ParseInt(words[i+1], 0, 64)
		if err != nil {
			return err
		}
		switch words[i] {
		case "after":
			f.after[k] = n
		case "from":
			f.from = n
		case "to":
			f.to = n
		default:
			return fmt.Errorf("eio has no %q", words[i])
		}
	}
	d.faults = f
	return nil
}

// report is what reading the control file gives.
func (d *disk) report() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return fmt.Sprintf("reads %d writes %d flushes %d unflushed %d cuts %d faults %+v\n",
		d.counts[reads], d.counts[writes], d.counts[flushes], len(d.cache), d.cuts, d.faults)
}
