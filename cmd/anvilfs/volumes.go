package main

import (
	"context"
	"errors"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// withVolume opens a member that is not mounted, runs fn and closes it.
func withVolume(ctx context.Context, word string, readOnly bool, fn func(*chain.Volume) error) error {
	devs, err := parseMember(word).open(readOnly)
	if err != nil {
		return err
	}
	v, err := chain.Open(ctx, devs, chain.Options{ReadOnly: readOnly, Writer: ondisk.NewUUID()})
	if err != nil {
		return err
	}
	return errors.Join(fn(v), v.Close())
}
