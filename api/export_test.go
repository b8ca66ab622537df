package api

import (
	"context"
	"time"
)

// DeleteExpiredKeys lets tests expire idempotency keys when they like.
func (s *Server) DeleteExpiredKeys(ctx context.Context, before time.Time) (int64, error) {
	return s.deleteExpiredKeys(ctx, before)
}
