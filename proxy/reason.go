package proxy

// endReason is why a session ended: in its log line, and the label of a counter.
type endReason uint8

const (
	endTerminate endReason = iota
	endGone
	endCancelRequest
	endProtocol
	endHandshake
	endRefused
	endAuthentication
	endLoginTimeout
	endMadeRoom
	endStalled
	endIdleTransaction
	endServerLost
	endSettings
	endPoolMode
	endShutdown
	endKilled
	endReasonCount
)

var endReasonNames = [endReasonCount]string{
	endTerminate:       "terminate",
	endGone:            "client gone",
	endCancelRequest:   "cancel request",
	endProtocol:        "protocol violation",
	endHandshake:       "TLS handshake failed",
	endRefused:         "login refused",
	endAuthentication:  "authentication failed",
	endLoginTimeout:    "login timeout",
	endMadeRoom:        "room for another login",
	endStalled:         "client stalled",
	endIdleTransaction: "idle transaction timeout",
	endServerLost:      "server lost in transaction",
	endSettings:        "settings refused by server",
	endPoolMode:        "transaction in statement mode",
	endShutdown:        "shutdown",
	endKilled:          "killed by an administrator",
}

// String returns the reason in words.
func (r endReason) String() string { return endReasonNames[r] }

// abnormal reports whether the end is one that an operator may want to see.
func (r endReason) abnormal() bool {
	switch r {
	case endTerminate, endGone, endCancelRequest, endShutdown, endKilled:
		return false
	default:
		return true
	}
}
