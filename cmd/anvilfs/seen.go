package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/cmd/layout"
	"github.com/anvilfs/anvilfs/ondisk/rawjson"
)

// A sighting is where a member was, the last time that it was open here.
type sighting struct {
	Name    string       `json:"name"` // as it was given
	Devices []seenDevice `json:"devices"`
	At      time.Time    `json:"at"`
}

// A seenDevice is one of its devices.
type seenDevice struct {
	Path     string `json:"path"`
	Identity string `json:"identity,omitempty"` // link by id, or model and serial number
}

// sightings are where this host saw the members of a cluster, by their ids. It
// tells people which disk is missing, and nothing else: which device is which
// member only the devices themselves say. Losing the file costs nothing else.
type sightings struct {
	path string // of the file; "" = nothing is kept
	room string // its directory, where that is ours to make; "" = it was named with state=
	home string // where names that are not absolute begin
	log  *slog.Logger

	mu    sync.Mutex // guards known
	known map[string]sighting
}

// openSightings reads what is known of the cluster's members.
func openSightings(id, state string, log *slog.Logger) *sightings {
	s := &sightings{home: "/", log: log, known: make(map[string]sighting)}
	if home, err := os.Getwd(); err == nil {
		s.home = home
	}
	if s.path = state + seenSuffix; state == "" {
		dir, err := stateDir()
		if err != nil {
			s.path = ""
			return s
		}
		s.path, s.room = filepath.Join(dir, id+seenSuffix), dir
	}
	text, err := os.ReadFile(s.path)
	if err == nil {
		err = rawjson.Unmarshal(text, &s.known)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		log.Warn("where members were seen last is not known", "file", s.path, "err", err)
		s.known = make(map[string]sighting)
	}
	return s
}

// String is "/dev/sdb (ata-...)".
func (s sighting) String() string {
	var words []string
	for _, d := range s.Devices {
		if d.Identity != "" {
			d.Path += " (" + d.Identity + ")"
		}
		words = append(words, d.Path)
	}
	return strings.Join(words, " and ")
}

// look notes where the members are that are open now, and forgets those that
// are members no more.
func (s *sightings) look(nodes []cluster.NodeStatus) {
	if s.path == "" {
		return
	}
	system := layout.System{Root: "/"}
	now := make(map[string]sighting, len(nodes))
	for i := range nodes {
		n := &nodes[i]
		s.mu.Lock()
		was, known := s.known[n.Fsid]
		s.mu.Unlock()
		if known {
			now[n.Fsid] = was
		}
		if n.Total == 0 {
			continue // not open
		}
		is := sighting{Name: n.Name, At: time.Now()}
		for _, p := range s.paths(n.Name) {
			is.Devices = append(is.Devices, seenDevice{p, system.Identity(p)})
		}
		now[n.Fsid] = is
	}
	s.mu.Lock()
	s.known = now
	s.mu.Unlock()
	if err := s.save(now); err != nil {
		s.log.Warn("where members are is not remembered", "err", err)
	}
}

// paths are the devices of a member as it was given.
func (s *sightings) paths(name string) []string {
	return devicesOf(name, s.home)
}

// save replaces the file.
func (s *sightings) save(known map[string]sighting) error {
	var text bytes.Buffer
	if err := rawjson.Write(&text, known, "  "); err != nil {
		return err
	}
	if s.room != "" {
		if err := os.MkdirAll(s.room, 0o700); err != nil {
			return err
		}
	}
	if err := writeDurably(s.path+".new", text.Bytes()); err != nil {
		_ = os.Remove(s.path + ".new") // half of it takes room that others need
		return err
	}
	return os.Rename(s.path+".new", s.path)
}

// writeDurably writes a file that is to replace another one: without the sync a
// power cut could leave the new name with nothing in it.
func writeDurably(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Sync(), f.Close())
}

// keep looks once, and again whenever other members are open, until ctx ends and
// a last time then.
func (s *sightings) keep(ctx context.Context, p *cluster.Pool) {
	var done map[string]string
	for last := false; ; {
		changed := p.Changed()
		nodes := p.Status().Nodes
		open := make(map[string]string)
		for i := range nodes {
			if open[nodes[i].Fsid] = ""; nodes[i].Total > 0 {
				open[nodes[i].Fsid] = nodes[i].Name
			}
		}
		if !maps.Equal(open, done) {
			s.look(nodes)
		}
		if done = open; last {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			last = true
		}
	}
}
