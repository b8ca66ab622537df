//go:build !linux || 386 || s390x

package reactor

import (
	"errors"
	"fmt"
)

func newEpoll(*Engine) (poller, error) {
	return nil, fmt.Errorf("engine epoll: %w on this platform", errors.ErrUnsupported)
}
