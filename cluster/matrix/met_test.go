package matrix

import "fmt"

// met changes every file whose table may be damaged. The member is copied anew
// once, instead of being opened again with each txg.
func met(r *run) {
	for i, inum := range r.base.keep {
		path, data := fmt.Sprintf("/keep/k%d", i), content(r.rng, 4096)
		err := r.life.caller.do(func(s map[string]string) { s[path] = data + s[path][len(data):] },
			func() error { _, err := r.life.fs.Write(r.life.ctx, inum, 0, []byte(data), false); return err })
		r.check(err, "writing")
	}
	r.check(r.sync(r.limit), "sync")
	r.healthy()
}

func notWhileCopied(c cell) string {
	if c.at == copying || c.at == swap {
		return "the copy that is under way may replace what is damaged before a txg meets it"
	}
	return onlyMasters(c)
}
