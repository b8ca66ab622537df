package pool

// CloseReason is why a server connection was closed: in logs, and the label of a
// counter.
type CloseReason uint8

// The reasons.
const (
	ReasonLost CloseReason = iota
	ReasonConnectFailed
	ReasonLoginFailed
	ReasonIdle
	ReasonLifetime
	ReasonShutdown
	ReasonProtocol
	ReasonStuck
	ReasonClientMidMessage
	ReasonCopyUncertain
	ReasonResetFailed
	ReasonMakeRoom
	ReasonPaused
	ReasonReconnect
	ReasonKilled
	reasonCount
)

var reasonNames = [reasonCount]string{
	ReasonLost:             "server closed the connection",
	ReasonConnectFailed:    "connect failed",
	ReasonLoginFailed:      "login failed",
	ReasonIdle:             "server idle timeout",
	ReasonLifetime:         "server lifetime over",
	ReasonShutdown:         "shutdown",
	ReasonProtocol:         "unexpected message from server",
	ReasonStuck:            "cancel had no effect",
	ReasonClientMidMessage: "client gone in the middle of a long message",
	ReasonCopyUncertain:    "protocol state unknown after failed copy",
	ReasonResetFailed:      "reset failed",
	ReasonMakeRoom:         "room for another pool",
	ReasonPaused:           "database paused",
	ReasonReconnect:        "reconnect",
	ReasonKilled:           "killed by an administrator",
}

// String returns the reason in words.
func (r CloseReason) String() string { return reasonNames[r] }
