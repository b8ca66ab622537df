package pgwire

// SQLState is a five-character error code.
// See https://www.postgresql.org/docs/current/errcodes-appendix.html
type SQLState string

// The codes that billproxy sends or acts on.
const (
	SuccessfulCompletion       SQLState = "00000"
	ConnectionFailure          SQLState = "08006"
	CannotConnect              SQLState = "08001"
	ProtocolViolation          SQLState = "08P01"
	FeatureNotSupported        SQLState = "0A000"
	InvalidAuthorization       SQLState = "28000"
	InvalidPassword            SQLState = "28P01"
	ReadOnlyTransaction        SQLState = "25006"
	InFailedTransaction        SQLState = "25P02"
	IdleInTransactionTimeout   SQLState = "25P03"
	UndefinedStatement         SQLState = "26000"
	InvalidCursorName          SQLState = "34000"
	InvalidCatalogName         SQLState = "3D000"
	InsufficientPrivilege      SQLState = "42501"
	SyntaxError                SQLState = "42601"
	DuplicateStatement         SQLState = "42P05"
	UndefinedObject            SQLState = "42704"
	TooManyConnections         SQLState = "53300"
	ConfigurationLimitExceeded SQLState = "53400"
	ProgramLimitExceeded       SQLState = "54000"
	ObjectNotInState           SQLState = "55000"
	QueryCanceled              SQLState = "57014"
	AdminShutdown              SQLState = "57P01"
	CrashShutdown              SQLState = "57P02"
	CannotConnectNow           SQLState = "57P03"
	ConfigFileError            SQLState = "F0000"
)

// Class is the first two characters of the code.
func (s SQLState) Class() string {
	if len(s) < 2 {
		return ""
	}
	return string(s[:2])
}
