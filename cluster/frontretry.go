package cluster

import "time"

// A failed cache is tried again later than a member is: nothing waits for it, and
// each return of a device that fails again is an event.
const (
	frontRetryFirst = time.Minute
	frontRetryMax   = 16 * time.Minute
)

// later plans the next opening of a cache that failed, each after twice the
// time. The caller holds mu.
func (f *front) later() {
	if f.reopen == nil {
		return
	}
	wait := max(f.backoff, frontRetryFirst)
	f.backoff = min(2*wait, frontRetryMax)
	attempt := f.attempt
	time.AfterFunc(wait, func() { f.again(attempt) })
}

// again opens a cache that failed, unless somebody did something about it. Its
// state changes only if that ends in another way.
func (f *front) again(attempt int) {
	f.mu.Lock()
	gone := f.gone
	f.mu.Unlock()
	if gone != nil {
		<-gone // it hangs until then
	}
	f.mu.Lock()
	if f.attempt != attempt || f.state != CacheFailed && f.state != CacheHung {
		f.mu.Unlock()
		return
	}
	f.attempt++
	attempt, spec, meter, open := f.attempt, f.spec, f.meter, f.reopen
	done := make(chan struct{}) // who opens it meanwhile waits
	f.gone = done
	f.mu.Unlock()
	_ = f.open(attempt, spec, nil, meter, open) // the status says it
	close(done)
}
