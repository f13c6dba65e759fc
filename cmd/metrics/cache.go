package metrics

import "github.com/anvilfs/anvilfs/cluster"

// cacheStates are those that a series of 0 and 1 is made for.
var cacheStates = []cluster.CacheState{
	cluster.CacheOpening, cluster.CacheOn, cluster.CacheOffline, cluster.CacheHung, cluster.CacheFailed, cluster.CacheIdle,
}

func (s *shot) cache(c *cluster.CacheStatus) {
	for _, state := range cacheStates {
		s.gauge("cache_state", truth(state == c.State), c.Name, string(state))
	}
	s.gauge("cache_size_bytes", float64(c.Size), c.Name, "total")
	s.gauge("cache_size_bytes", float64(c.Used), c.Name, "used")
	s.gauge("cache_blocks", float64(c.Blocks), c.Name)
	s.counter("cache_hits_total", c.Hits, c.Name)
	s.counter("cache_hit_bytes_total", c.HitBytes, c.Name)
	s.counter("cache_misses_total", c.Misses, c.Name, "all")
	s.counter("cache_misses_total", c.Late, c.Name, "late")
	s.counter("cache_misses_total", c.Bad, c.Name, "bad")
	s.counter("cache_filled_total", c.Filled, c.Name)
	s.counter("cache_filled_bytes_total", c.FilledBytes, c.Name)
	s.counter("cache_evicted_total", c.Evicted, c.Name)
	s.counter("cache_refused_total", c.Refused, c.Name)
}
