package main

import (
	"context"
	"errors"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// openVolume opens a member that is not mounted.
func openVolume(ctx context.Context, m member, o chain.Options) (*chain.Volume, error) {
	devs, err := m.take(ctx, o.ReadOnly)
	if err != nil {
		return nil, err
	}
	o.Writer = ondisk.NewUUID()
	v, err := chain.Open(ctx, devs, o)
	if err != nil {
		return nil, explain(err)
	}
	return v, nil
}

// withVolume opens a member that is not mounted, runs fn and closes it.
func withVolume(ctx context.Context, word string, o chain.Options, fn func(*chain.Volume) error) error {
	m, err := parseMember(word)
	if err != nil {
		return err
	}
	v, err := openVolume(ctx, m, o)
	if err != nil {
		return err
	}
	return errors.Join(fn(v), v.Close())
}

// withDevices opens the devices of a member for reading, damaged or not.
func withDevices(ctx context.Context, word string, fn func([]ondisk.Device) error) error {
	m, err := parseMember(word)
	if err != nil {
		return err
	}
	devs, err := m.take(ctx, true)
	if err != nil {
		return err
	}
	defer func() {
		for _, d := range devs {
			_ = d.Close() // only read
		}
	}()
	return fn(devs)
}
