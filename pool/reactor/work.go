package reactor

// Work implements Loop. One at a time, so that a flood of it leaves the loop its
// processor.
func (e *Engine) Work(fn, done func()) {
	if e.ending {
		return
	}
	if e.ctx == nil {
		e.Post(func() { e.Work(fn, done) })
		return
	}
	ctx := e.ctx
	e.workers.Go(func() {
		select {
		case e.working <- struct{}{}:
		case <-ctx.Done():
			return
		}
		fn()
		<-e.working
		e.Post(func() {
			if !e.ending {
				done()
			}
		})
	})
}
