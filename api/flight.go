package api

import (
	"context"
	"sync"
	"time"
)

// duplicateWait is how long a request waits for an earlier one with the same idempotency key.
const duplicateWait = 250 * time.Millisecond

// flights holds back requests whose idempotency key is at work in this process, so that in a retry storm the duplicates
// cost no database connection. The zero value is ready; it is safe for concurrent use.
type flights struct {
	mu    sync.Mutex
	byKey map[string]*flight // guarded by mu
}

// A flight is a request at work.
type flight struct {
	done     chan struct{}   // closed when it is over
	recorded *recordedAnswer // set before done is closed; nil when the request failed and nothing was recorded
}

// do calls run unless a request with the same key is running; then it waits for that one and repeats its answer. When
// that one failed without leaving an answer, one of those waiting takes its place. The wait ends in an [apiError] after
// duplicateWait.
func (f *flights) do(ctx context.Context, key idempotencyKey, run func() (outcome, error)) (response, error) {
	timeout := time.NewTimer(duplicateWait)
	defer timeout.Stop()
	for {
		current, leads := f.join(key.value)
		if leads {
			return f.lead(key.value, current, run)
		}
		select {
		case <-current.done:
			if current.recorded != nil {
				return key.replay(current.recorded)
			}
		case <-timeout.C:
			return response{}, key.inUse()
		case <-ctx.Done():
			return response{}, ctx.Err()
		}
	}
}

// join returns the flight of a key and whether the caller is the one to make it.
func (f *flights) join(key string) (current *flight, leads bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if current, ok := f.byKey[key]; ok {
		return current, false
	}
	if f.byKey == nil {
		f.byKey = map[string]*flight{}
	}
	current = &flight{done: make(chan struct{})}
	f.byKey[key] = current
	return current, true
}

func (f *flights) lead(key string, current *flight, run func() (outcome, error)) (response, error) {
	defer func() { // also when run panics
		f.mu.Lock()
		delete(f.byKey, key)
		f.mu.Unlock()
		close(current.done)
	}()
	out, err := run()
	current.recorded = out.recorded
	return out.response, err
}
