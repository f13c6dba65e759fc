package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/fs"
	resync "github.com/anvilfs/anvilfs/sync"
)

// closeTimeout bounds the final commit when the mount is gone: a device that
// hangs must not keep the process for ever.
const closeTimeout = 2 * time.Minute

// serve is the serving process: open, mount, tell, stay, close.
func serve(ctx context.Context, s source, dir string, o *mountOptions, ready *readiness, foreground bool) error {
	err := serveMount(ctx, s, dir, o, ready, foreground)
	if err != nil && ready.failed(err) {
		return &exitError{code: exitMount}
	}
	if err != nil {
		return exitWith(exitMount, "%w", err)
	}
	return nil
}

func serveMount(ctx context.Context, s source, dir string, o *mountOptions, ready *readiness, foreground bool) error {
	log, closeLog, err := openLog(o, foreground)
	if err != nil {
		return err
	}
	defer closeLog()
	specs, err := s.specs(o.readOnly)
	if err != nil {
		return err
	}
	pool := o.pool
	pool.Label, pool.ReadOnly, pool.Logger = s.label, o.readOnly, log
	limitMemory(&pool)
	p, err := cluster.OpenPool(ctx, specs, pool)
	if err != nil {
		return err
	}
	for _, n := range p.Status().Nodes {
		if n.State != cluster.NodeInSync && n.State != cluster.NodeReadOnly {
			ready.note(describeNode(&n))
		}
	}
	if err := os.Chdir("/"); err != nil { // do not keep a directory busy
		return err
	}
	m := startMaintenance(p, o.readOnly, log)
	closing := func() error {
		m.stop()
		cctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		return p.Close(cctx)
	}
	server, err := fs.Mount(ctx, fs.OnPool(p), dir, fs.MountOptions{
		FsName: s.display(), ReadOnly: o.readOnly, AllowOther: o.allowOther, Flags: o.flags,
		Debug: o.debug, Logger: log, Control: &controller{pool: p, log: log}, Closing: closing,
	})
	if err != nil {
		return errors.Join(err, closing())
	}
	if err := addUtab(s.display(), dir); err != nil {
		log.Warn("umount(8) will not wait for this mount", "err", err)
	}
	log.Info("mounted", "source", s.display(), "directory", dir, "pid", os.Getpid())
	detach := unmountOn(ctx, server.Unmount, func(err error) { log.Error("cannot unmount", "err", err) })
	defer detach()
	ready.ok()
	err = server.Wait()
	if uerr := removeUtab(dir); uerr != nil {
		log.Warn("cleaning up after the mount", "err", uerr)
	}
	if err != nil {
		log.Error("closing failed", "err", err)
		return fmt.Errorf("%s: %w", s.display(), err)
	}
	log.Info("unmounted, media complete", "directory", dir)
	return nil
}

// limitMemory lets the collector know of the budget.
func limitMemory(o *cluster.Options) {
	memory := o.Memory
	if memory == 0 {
		memory = 256 << 20
		o.Memory = memory
	}
	debug.SetMemoryLimit(memory - memory/16)
}

func (s source) specs(readOnly bool) ([]cluster.MemberSpec, error) {
	var out []cluster.MemberSpec
	for _, m := range s.members {
		spec, err := m.spec(readOnly)
		if err != nil {
			return nil, err
		}
		out = append(out, spec)
	}
	return out, nil
}

// maintenance is what runs beside a mount.
type maintenance struct {
	cancel context.CancelFunc
	done   chan struct{}
}

func startMaintenance(p *cluster.Pool, readOnly bool, log *slog.Logger) *maintenance {
	ctx, cancel := context.WithCancel(context.Background())
	m := &maintenance{cancel, make(chan struct{})}
	go func() {
		defer close(m.done)
		if !readOnly {
			resync.NewManager(p, resync.Options{Logger: log}).Run(ctx)
		}
	}()
	return m
}

func (m *maintenance) stop() {
	m.cancel()
	<-m.done
}
