package proxy

import (
	"strings"
)

// encodingKind is whether a character of a client's encoding can be mistaken.
type encodingKind uint8

const (
	// encodingUnsafe: a byte that is ASCII may be a part of another character, a
	// quote or backslash for instance. So may it be in encodings not known here.
	encodingUnsafe encodingKind = iota

	// encodingSafe: all bytes of a character outside ASCII are outside ASCII. That
	// is so in the encodings that a database may have.
	encodingSafe
)

// safeEncodings are the names of all encodings that a database may have, without
// what is not a letter or digit.
// See https://www.postgresql.org/docs/current/multibyte.html#MULTIBYTE-CHARSET-SUPPORTED
const safeEncodings = `utf8 unicode sqlascii muleinternal euccn eucjis2004 eucjp euckr euctw
	latin1 latin2 latin3 latin4 latin5 latin6 latin7 latin8 latin9 latin10
	iso88591 iso88592 iso88593 iso88594 iso88595 iso88596 iso88597 iso88598 iso88599 iso885910 iso885913 iso885914 iso885915 iso885916
	win1250 win1251 win1252 win1253 win1254 win1255 win1256 win1257 win1258 win866 win874
	windows1250 windows1251 windows1252 windows1253 windows1254 windows1255 windows1256 windows1257 windows1258 windows866 windows874
	win alt abc tcvn tcvn5712 vscii koi8 koi8r koi8u`

// encodingOf tells of the encoding that client_encoding names. As to PostgreSQL,
// case and what is not a letter or digit mean nothing.
func encodingOf(name string) encodingKind {
	plain := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return -1
	}, name)
	for safe := range strings.FieldsSeq(safeEncodings) {
		if plain == safe {
			return encodingSafe
		}
	}
	return encodingUnsafe
}
