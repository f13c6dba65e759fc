package main

import (
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/fs"
)

// onPool is the pool as the filesystem wants to see it.
func onPool(p *cluster.Pool) fs.Store { return fs.OnPool(p) }
