package differential

import (
	"slices"
	"strings"
)

// excuse makes what may differ alike. There is little of it; what random statements
// leave out because of the schema or of the server's past is said where they are
// made: see known and temporary.
func excuse(transcript []string) []string {
	return acceptedParse(spokenOnce(transcript))
}

// spokenOnce takes away the warnings about the text of a literal: the proxy answers
// a Parse of a statement that a server has without asking it, who would warn again.
func spokenOnce(transcript []string) []string {
	return slices.DeleteFunc(transcript, func(line string) bool {
		return strings.HasPrefix(line, "NoticeResponse WARNING 22P06 ")
	})
}

// giveUp reports whether a difference is known, and ends the case.
func giveUp(direct, proxied []string) bool {
	return lostSequence(direct, proxied) || lateSnapshot(direct, proxied)
}

// lateSnapshot reports whether only PostgreSQL has refused to change what a transaction is
// behind its first query, which was a Parse: the proxy answers one of a statement that a
// server has without asking it.
func lateSnapshot(direct, proxied []string) bool {
	isLate := func(line string) bool {
		return strings.HasPrefix(line, "ErrorResponse ERROR 25001 ") && strings.Contains(line, "before any query")
	}
	return slices.ContainsFunc(direct, isLate) && !slices.ContainsFunc(proxied, isLate)
}

// lostSequence reports whether currval or lastval has failed with 55000 through the
// proxy only: a server may have had to forget whose numbers it has. The other way
// round, or another number, is a leak.
func lostSequence(direct, proxied []string) bool {
	isLost := func(line string) bool {
		return strings.HasPrefix(line, "ErrorResponse ERROR 55000 ") && strings.Contains(line, "not yet defined in this session")
	}
	return slices.ContainsFunc(proxied, isLost) && !slices.ContainsFunc(direct, isLost)
}

// acceptedParse takes away that a Parse in a failed transaction was accepted, if what
// was prepared is refused at once. The proxy answers a Parse of a statement that a
// server has without asking it; in a pipeline it cannot know yet that a statement in
// front has failed.
func acceptedParse(transcript []string) []string {
	for i := len(transcript) - 2; i >= 0; i-- {
		if transcript[i] == "ParseComplete" && strings.HasPrefix(transcript[i+1], "ErrorResponse ERROR 25P02 ") {
			transcript = slices.Delete(transcript, i, i+1)
		}
	}
	return transcript
}
