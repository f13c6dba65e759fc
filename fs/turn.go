package fs

// A turn is a mutex for what may wait for members. Who waits for it waits on a
// channel, which lets the virtual time of tests go on.
type turn chan struct{}

func newTurn() turn { return make(turn, 1) }

// Lock waits until nobody has it.
func (t turn) Lock() { t <- struct{}{} }

// Unlock gives it to the next.
func (t turn) Unlock() { <-t }
