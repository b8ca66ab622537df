package pool

import "github.com/billproxy/billproxy/pool/pgwire"

// absent stands for the leader of a flight that has gone.
type absent struct{}

// OnLease implements Client.
func (absent) OnLease(*Server) {}

// OnRefused implements Client.
func (absent) OnRefused(*pgwire.Error) {}

// OnReply implements Client.
func (absent) OnReply([]byte) {}

// OnParameterStatus implements Client.
func (absent) OnParameterStatus(_, _ []byte) (pass bool) { return true }

// OnReset implements Client.
func (absent) OnReset(pgwire.TxStatus) {}

// OnDeallocateAll implements Client.
func (absent) OnDeallocateAll() {}

// OnDiscard implements Client.
func (absent) OnDiscard([]Setting) {}

// OnGroupError implements Client.
func (absent) OnGroupError(uint32, bool) {}

// OnFailed implements Client.
func (absent) OnFailed() {}

// OnGroupEnd implements Client.
func (absent) OnGroupEnd(pgwire.TxStatus) {}

// OnRunAgain implements Client.
func (absent) OnRunAgain([]byte, AgainReason) {}

// OnSharedEnd implements Client.
func (absent) OnSharedEnd() {}

// OnAnswer implements Client.
func (absent) OnAnswer([]byte) (taken bool) { return false }

// OnAlone implements Client.
func (absent) OnAlone(bool) {}

// OnSharedLost implements Client.
func (absent) OnSharedLost(Loss) {}

// StatementName implements Client.
func (absent) StatementName(*Statement) string { return "" }

// OnDescribed implements Client.
func (absent) OnDescribed(*Statement, uint32, uint32, string) {}

// Described implements Client.
func (absent) Described(*Statement, uint32) bool { return false }

// OnSettings implements Client.
func (absent) OnSettings(*pgwire.Error) {}

// OnInspected implements Client.
func (absent) OnInspected(*Settings, bool) {}

// OnReleased implements Client.
func (absent) OnReleased() {}

// OnServerLost implements Client.
func (absent) OnServerLost(Loss) {}

// OnServerDrain implements Client.
func (absent) OnServerDrain() {}
