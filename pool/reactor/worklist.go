package reactor

// worklist holds connections that are to be seen to before the loop sleeps, each
// at most once.
type worklist struct {
	member connFlags // of the connections in the list
	conns  []*conn
	walked []*conn // the list of the last run, for its memory
}

func (w *worklist) add(c *conn) {
	if c.flags&w.member == 0 {
		c.flags |= w.member
		w.conns = append(w.conns, c)
	}
}

// run empties the list and calls handle for each connection that was in it.
// handle may add to the list.
func (w *worklist) run(handle func(*conn)) {
	if len(w.conns) == 0 {
		return
	}
	w.conns, w.walked = w.walked[:0], w.conns
	for i, c := range w.walked {
		w.walked[i] = nil
		c.flags &^= w.member
		handle(c)
	}
}
