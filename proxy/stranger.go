package proxy

import (
	"cmp"

	"github.com/billproxy/billproxy/pool/auth"
)

// strangers are users who do not exist. They are asked for the same proof as those who
// do, with a salt that is as stable as a real one.
type strangers struct {
	secret     []byte // makes their verifiers; nil before the first client
	iterations int    // the most of a known verifier
	md5, scram bool   // what known secrets are good for
}

// meet takes note of the secret of a user who exists.
func (s *strangers) meet(user string, secret auth.Secret) {
	if secret.MD5(user) != "" {
		s.md5 = true
	} else if secret.Verifier() != nil {
		s.scram = true
	}
	if verifier := secret.Verifier(); verifier != nil {
		s.iterations = max(s.iterations, verifier.Iterations)
	}
}

// verifier returns that of a user of whom none is known.
func (s *strangers) verifier(user string) auth.Verifier {
	return auth.FakeVerifier(user, s.secret, cmp.Or(s.iterations, auth.DefaultIterations))
}

// onlySCRAM reports whether every known user proves who it is by SCRAM, even where md5
// would do, so that another question would tell that a user is not known.
func (s *strangers) onlySCRAM() bool { return s.scram && !s.md5 }
