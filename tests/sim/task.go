package sim

// A task is a call into real code that stops at each flush of its device, so
// that the world decides what happens there, and when. Of the task's goroutine
// and the world's only one runs at a time: neither needs locks.
type task struct {
	resume chan struct{}
	paused chan bool // true: it has ended
	fn     func()
	begun  bool
	ended  bool
}

func newTask(fn func()) *task {
	return &task{resume: make(chan struct{}), paused: make(chan bool), fn: fn}
}

// run goes on to the next pause or the end, and reports whether it has ended.
func (t *task) run() bool {
	if t.ended {
		return true
	}
	if !t.begun {
		t.begun = true
		go func() {
			t.fn()
			t.paused <- true
		}()
	} else {
		t.resume <- struct{}{}
	}
	t.ended = <-t.paused
	return t.ended
}

// pause is called inside the task.
func (t *task) pause() {
	t.paused <- false
	<-t.resume
}

// unwind runs the task to its end. Its device must fail by now, or let go.
func (t *task) unwind() {
	for !t.run() {
	}
}
