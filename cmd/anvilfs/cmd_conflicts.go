package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/anvilfs/anvilfs/cmd/advice"
	"github.com/anvilfs/anvilfs/ondisk/rawjson"
)

func conflictsCommand() *cobra.Command {
	return group("conflicts", "What merges of copies that were away left to be decided",
		conflictsListCommand(), conflictsResolveCommand())
}

func conflictsListCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "list MNT",
		Short: "List the files that both sides changed",
		Long: `Lists what the merge of a soft master that was changed while it was away could
not decide: files that both sides changed, made, or removed. What the cluster
has is where it was; what the branch has is beside it, as NAME.conflict-NODE-N.`,
		Args: exactly(1, "a mount point"),
		RunE: func(c *cobra.Command, args []string) error {
			words := []string{"conflicts", "list"}
			if asJSON {
				words = append(words, "--json")
			}
			return relay(c, args[0], words...)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print the list as JSON")
	return c
}

// What of a conflict is kept.
const (
	keepOurs   = "ours"
	keepTheirs = "theirs"
	keepBoth   = "both"
)

func conflictsResolveCommand() *cobra.Command {
	var keep string
	c := &cobra.Command{
		Use:   "resolve MNT PATH --keep ours|theirs|both",
		Short: "Decide about one of them",
		Long: `PATH is a file of the list, or its copy; below MNT or from there.

  ours    what the branch has takes the place of what the cluster has
  theirs  what the cluster has stays; the copy of the branch is removed
  both    both stay under the names they have

The branch itself stays on its device as the snapshot branch-NODE-T until it is
deleted with anvilfs pfs delete.`,
		Args: exactly(2, "a mount point and a path"),
		RunE: func(c *cobra.Command, args []string) error {
			return resolve(c.Context(), c.OutOrStdout(), args[0], args[1], keep)
		},
	}
	c.Flags().StringVar(&keep, "keep", "", "ours, theirs or both")
	return c
}

func resolve(ctx context.Context, out io.Writer, dir, path, keep string) error {
	switch keep {
	case keepOurs, keepTheirs, keepBoth:
	default:
		return usageError("say what is to be kept: --keep ours, theirs or both")
	}
	reply, err := tell(ctx, dir, "conflicts", "list", "--json")
	if err != nil {
		return err
	}
	var list conflictsJSON
	if err := rawjson.Unmarshal([]byte(reply), &list); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	inside, err := below(dir, path)
	if err != nil {
		return err
	}
	for i := range list.Conflicts {
		k := &list.Conflicts[i]
		if k.Path != inside && k.Copy != inside {
			continue
		}
		if err := settle(out, dir, k, keep); errors.Is(err, syscall.EROFS) {
			return readOnlyError(dir)
		} else if err != nil {
			return err
		}
		id := k.Path
		if k.Copy != "" {
			id = k.Copy
		}
		_, err := tell(ctx, dir, "conflicts", "forget", id)
		return err
	}
	return fmt.Errorf("there is no conflict about %s: anvilfs conflicts list %s shows them", path, advice.Quote(dir))
}

// below is a path as the list has it.
func below(dir, path string) (string, error) {
	if !filepath.IsAbs(path) {
		if _, err := os.Lstat(filepath.Join(dir, path)); err == nil || !strings.HasPrefix(filepath.Clean(path), filepath.Clean(dir)+"/") {
			return filepath.Clean(path), nil
		}
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", err
	}
	rel, err := filepath.Rel(dir, abs)
	if err == nil && strings.HasPrefix(rel, "..") {
		err = fmt.Errorf("%s is not below %s", path, dir)
	}
	return rel, err
}

// settle does to the files what was decided.
func settle(out io.Writer, dir string, k *conflictJSON, keep string) error {
	out = advice.Lines(out)
	path, copied := filepath.Join(dir, k.Path), filepath.Join(dir, k.Copy)
	switch {
	case keep == keepBoth || keep == keepTheirs && k.Copy == "":
		fmt.Fprintf(out, "%s stays as it is\n", k.Path)
		return nil
	case keep == keepTheirs:
		if err := os.RemoveAll(copied); err != nil {
			return err
		}
		if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
			fmt.Fprintf(out, "%s is removed, as %s is in the cluster\n", k.Copy, k.Path)
			return nil
		}
		fmt.Fprintf(out, "%s stays, %s is removed\n", k.Path, k.Copy)
		return nil
	}
	st, err := os.Lstat(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	isDir := err == nil && st.IsDir()
	if k.Copy == "" {
		if !k.Removed {
			return fmt.Errorf("%s: %s: rename it as it should be, then --keep both", k.Path, k.What)
		}
		if isDir {
			return fmt.Errorf("%s is a directory with content: remove it by hand, then --keep both", k.Path)
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		fmt.Fprintf(out, "%s is removed\n", k.Path)
		return nil
	}
	if isDir {
		return fmt.Errorf("%s is a directory, which is not replaced: move what you want out of %s, then --keep both", k.Path, k.Copy)
	}
	if branch, err := os.Lstat(copied); err == nil && branch.IsDir() && st != nil {
		return fmt.Errorf("%s is a directory, and %s is none: remove the one or rename the other, then --keep both", k.Copy, k.Path)
	}
	if err := os.Rename(copied, path); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s is now what the branch had\n", k.Path)
	return nil
}
