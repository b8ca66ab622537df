package auth

import (
	"unicode/utf8"

	"github.com/xdg-go/stringprep"
)

// saslprepProfile is SASLprep (RFC 4013) as PostgreSQL's pg_saslprep does it. It
// differs from stringprep.SASLprep in U+200B, which is in two tables: PostgreSQL
// makes a space of it, it does not drop it.
var saslprepProfile = stringprep.Profile{
	Mappings:  []stringprep.Mapping{nonASCIISpaces, stringprep.TableB1},
	Normalize: true,
	Prohibits: []stringprep.Set{
		stringprep.TableA1, stringprep.TableC1_2, stringprep.TableC2_1, stringprep.TableC2_2, stringprep.TableC3,
		stringprep.TableC4, stringprep.TableC5, stringprep.TableC6, stringprep.TableC7, stringprep.TableC8, stringprep.TableC9,
	},
	CheckBiDi: true,
}

var nonASCIISpaces = func() stringprep.Mapping {
	m := stringprep.Mapping{}
	for _, r := range "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u200b\u202f\u205f\u3000" {
		m[r] = []rune{' '}
	}
	return m
}()

// normalize returns the password as SCRAM hashes it: prepared by SASLprep, or as it
// is where that is impossible, as in PostgreSQL.
func normalize(password string) string {
	if isASCII(password) || !utf8.ValidString(password) {
		return password
	}
	prepared, err := saslprepProfile.Prepare(password)
	if err != nil || prepared == "" {
		return password
	}
	return prepared
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
