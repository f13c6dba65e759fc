package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/cmd/advice"
)

// cacheNamed finds a cache; nil if there is none of that name.
func cacheNamed(list []cluster.CacheStatus, name string) *cluster.CacheStatus {
	for i := range list {
		if list[i].Name == name || list[i].Fsid == name {
			return &list[i]
		}
	}
	return nil
}

// sayCache says what a command did to a cache; c is nil if it is gone.
func sayCache(w io.Writer, dir, verb, name string, c *cluster.CacheStatus) {
	switch {
	case c == nil:
		fmt.Fprintf(w, "%s is no cache any more: leave it out of mounts from now on\n", name)
		return
	case verb == "add":
		fmt.Fprintf(w, "%s is a cache: name it as %s%s in mounts and fstab from now on\n", name, cachePrefix, name)
	}
	fmt.Fprintln(w, describeCache(c, dir))
}

// cacheState is the state in the words of people.
func cacheState(s cluster.CacheState) string { return strings.TrimPrefix(string(s), "cache-") }

// describeCache is a cache of the mount at dir in one line.
func describeCache(c *cluster.CacheStatus, dir string) string {
	s := fmt.Sprintf("cache %s is %s", c.Name, cacheState(c.State))
	if c.Error != "" {
		s += ": " + advice.Typed(c.Error, dir, c.Name)
	}
	if c.State == cluster.CacheFailed || c.State == cluster.CacheHung {
		s += "; it is tried again from time to time, or by " + advice.Typed("anvilfs node online MNT NODE", dir, c.Name)
	}
	return s
}

// printCaches is the table of caches for people; nothing without one.
func printCaches(w io.Writer, list []cluster.CacheStatus, dir string, size func(uint64) string) {
	if len(list) == 0 {
		return
	}
	t := newTable("  CACHE", "STATE", "USED", "OF", "HITS", "MISSES", "HIT RATE", "EVICTED")
	for i := range list {
		c := &list[i]
		t.row("  "+c.Name, cacheState(c.State), size(uint64(c.Used)), size(uint64(c.Size)),
			fmt.Sprint(c.Hits), fmt.Sprint(c.Misses), hitRate(c.Hits, c.Misses), fmt.Sprint(c.Evicted))
	}
	t.print(w)
	for i := range list {
		if list[i].Error != "" {
			fmt.Fprintf(w, "  %s\n", describeCache(&list[i], dir))
		}
	}
}

// hitRate is how much of what was asked for was there.
func hitRate(hits, misses uint64) string {
	if hits+misses == 0 {
		return "-"
	}
	return strconv.FormatUint(100*hits/(hits+misses), 10) + "%"
}

// cacheRates is what a cache did between two looks, per second.
type cacheRates struct {
	Name   string             `json:"name"`
	State  cluster.CacheState `json:"state"`
	Hits   rate               `json:"hits"`
	Misses rate               `json:"misses"`
	Filled rate               `json:"filled"`
	Used   int64              `json:"used_bytes"`
	Size   int64              `json:"size_bytes"`
}

func ratesOfCaches(per float64, old, now []cluster.CacheStatus) (list []cacheRates) {
	for i := range now {
		c, o := &now[i], cacheNamed(old, now[i].Name)
		if o == nil || o.Hits > c.Hits || o.Misses > c.Misses || o.Filled > c.Filled {
			o = new(cluster.CacheStatus) // it counts from zero again
		}
		list = append(list, cacheRates{
			Name: c.Name, State: c.State, Used: c.Used, Size: c.Size,
			Hits:   rateOf(per, c.Hits-o.Hits, c.HitBytes-o.HitBytes, 0, 0),
			Misses: rateOf(per, c.Misses-o.Misses, 0, 0, 0),
			Filled: rateOf(per, c.Filled-o.Filled, c.FilledBytes-o.FilledBytes, 0, 0),
		})
	}
	return list
}

func printCacheRates(w io.Writer, list []cacheRates) {
	if len(list) == 0 {
		return
	}
	t := newTable("  CACHE", "STATE", "HITS/s", "BYTES/s", "MISSES/s", "FILLED/s", "BYTES/s", "USED", "OF")
	for i := range list {
		c := &list[i]
		t.row("  "+c.Name, cacheState(c.State), count(c.Hits.Count), perSecond(c.Hits.Bytes), count(c.Misses.Count),
			count(c.Filled.Count), perSecond(c.Filled.Bytes), human(uint64(c.Used)), human(uint64(c.Size)))
	}
	t.print(w)
}
