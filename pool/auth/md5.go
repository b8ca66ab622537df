package auth

import (
	"crypto/md5"
	"crypto/subtle"
	"encoding/hex"
	"strings"
)

const md5Prefix = "md5"

// MD5Hash is what PostgreSQL stores for a password with password_encryption md5.
func MD5Hash(user, password string) string {
	sum := md5.Sum([]byte(password + user))
	return md5Prefix + hex.EncodeToString(sum[:])
}

// MD5Response is the answer to AuthenticationMD5Password of one who has the hash.
func MD5Response(hash string, salt [4]byte) string {
	sum := md5.Sum(append([]byte(strings.TrimPrefix(hash, md5Prefix)), salt[:]...))
	return md5Prefix + hex.EncodeToString(sum[:])
}

// isMD5Hash reports whether text is a hash and no password, as in PostgreSQL.
func isMD5Hash(text string) bool {
	digits, ok := strings.CutPrefix(text, md5Prefix)
	return ok && len(digits) == 2*md5.Size && strings.Trim(digits, "0123456789abcdef") == ""
}

// Equal compares secrets in a time that tells nothing but their lengths.
func Equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
