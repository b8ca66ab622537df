package differential

import (
	"regexp"
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
	return lostSequence(direct, proxied) || served(direct, proxied)
}

// leniencies are errors that only PostgreSQL has.
var leniencies = []*regexp.Regexp{
	// A client that was not told what its statement returns is served with what that is now.
	regexp.MustCompile(`^ErrorResponse ERROR 0A000 "cached plan must not change result type"`),

	// Behind a Parse that the proxy has answered without a server the transaction has had no
	// query yet.
	regexp.MustCompile(`^ErrorResponse ERROR 25001 "[^"]* before any query"`),
}

// served reports whether the first difference is that the proxy has served the client where
// PostgreSQL has had such an error.
func served(direct, proxied []string) bool {
	directly, here := firstDifference(direct, proxied)
	return !isError(here) && slices.ContainsFunc(leniencies, func(l *regexp.Regexp) bool { return l.MatchString(directly) })
}

func isError(line string) bool { return strings.HasPrefix(line, "ErrorResponse ") }

// firstDifference returns the first lines that differ, empty if one transcript is part of
// the other.
func firstDifference(direct, proxied []string) (directly, here string) {
	for i := range min(len(direct), len(proxied)) {
		if direct[i] != proxied[i] {
			return direct[i], proxied[i]
		}
	}
	return "", ""
}

// lostSequence reports whether currval or lastval has failed with 55000 through the
// proxy only: a server may have had to forget whose numbers it has. The other way
// round, or another number, is a leak.
func lostSequence(direct, proxied []string) bool {
	directly, here := firstDifference(direct, proxied)
	return !isLost(directly) && isLost(here)
}

func isLost(line string) bool {
	return strings.HasPrefix(line, "ErrorResponse ERROR 55000 ") && strings.Contains(line, "not yet defined in this session")
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
