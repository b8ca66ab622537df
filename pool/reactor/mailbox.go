package reactor

import (
	"sync"
	"sync/atomic"
)

// keptPosts bounds the memory that a burst of posts leaves behind.
const keptPosts = 4 << 10

// mailbox carries functions from other goroutines to the loop. Only a loop that
// sleeps is woken, so a burst of posts costs one wake-up and posts to a busy
// loop cost none.
type mailbox struct {
	// pending spares the loop the lock in the batches without posts.
	pending atomic.Bool

	mu       sync.Mutex // guards the following
	posted   []func()
	sleeping bool
	closed   bool
	wake     func() // called with mu held: the loop cannot end underneath it

	taken []func() // owned by the loop; becomes posted at the next take
}

func (m *mailbox) post(fn func()) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	m.posted = append(m.posted, fn)
	m.pending.Store(true)
	if m.sleeping {
		m.sleeping = false
		m.wake()
	}
	return true
}

// sleep announces that the loop is about to block. It reports false if there is
// something to do instead.
func (m *mailbox) sleep() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sleeping = len(m.posted) == 0
	return m.sleeping
}

// awake takes back sleep.
func (m *mailbox) awake() {
	m.mu.Lock()
	m.sleeping = false
	m.mu.Unlock()
}

// run calls what was posted before.
func (m *mailbox) run() {
	if !m.pending.Load() {
		return
	}
	m.mu.Lock()
	m.posted, m.taken = m.taken[:0], m.posted
	m.pending.Store(false)
	m.mu.Unlock()
	for i, fn := range m.taken {
		m.taken[i] = nil
		fn()
	}
	if cap(m.taken) > keptPosts {
		m.taken = nil
	}
}

// close makes post report false from now on. What was posted before stays.
func (m *mailbox) close() {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
}
