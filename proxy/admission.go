package proxy

import (
	"slices"

	"github.com/billproxy/billproxy/pool"
	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/pool/reactor"
	"github.com/billproxy/billproxy/pool/shed"
)

// This file is what a session tells the gate of its pool about the work for which it
// asks for a server: whose it is, how urgent it is, and whether it has been tried
// before; and what came of it.

// admission is what a session keeps for that.
type admission struct {
	tenant    *shed.Tenant   // by application_name
	tenantFor *pool.Settings // of which settings

	// Of the work for which a server was asked last: whose it is; its hash, 0 if it cannot
	// be recognised; that it came to nothing.
	of     *shed.Tenant
	work   shed.Hash
	failed bool

	login *reactor.Timer // until the client may log in; nil if it need not wait
}

// announce says what the gate is to know of a group, empty if it is not at hand as a
// whole.
func (s *session) announce(group []byte, work groupWork) shed.Work {
	asked, particular, tags := s.read(group)
	told := shed.Work{Tenant: s.tenant(), Patience: s.settings.Patience(), Expected: work.timing.Expected()}
	if len(tags.Tenant) > 0 {
		told.Tenant = s.pool.Tenant(tags.Tenant)
	}
	told.Critical = tags.Critical || s.proxy.isCritical(s.pool.User, told.Tenant.Name)
	if s.runs > 0 || s.hasFollowed() {
		return told // it is still the same attempt
	}
	hash := s.pool.Hash().AddNumber(uint64(told.Tenant.Hash))
	switch {
	case len(group) == 0:
		hash = 0
	case len(tags.IdempotencyKey) > 0:
		hash = hash.Add(tags.IdempotencyKey)
	case s.transaction.open() && work.readOnly && !particular:
		hash = 0 // many transactions begin with the same
	default:
		hash = hash.Add(tags.Trace).AddNumber(uint64(asked))
	}
	s.admission.of, s.admission.work, s.admission.failed = told.Tenant, hash, false
	again := hash != 0 && s.proxy.retries.Arrive(hash, s.proxy.loop.Now())
	told.Retry = again || tags.Retry
	return told
}

// read returns what a group asks, with what parameters, as a hash, whether there are any,
// and what a comment says of it.
func (s *session) read(group []byte) (asked shed.Hash, particular bool, tags shed.Tags) {
	asked = shed.HashSeed
	parsed := false
	for messageType, body := range messages(group) {
		switch messageType {
		case pgwire.Query:
			text, _, _ := pgwire.CString(body)
			text, tags = shed.CutTags(text)
			asked = asked.Add(text)
		case pgwire.Parse:
			_, definition, _ := pgwire.CString(body)
			text, types, _ := pgwire.CString(definition)
			text, tags = shed.CutTags(text)
			asked = asked.Add(text).Add(types)
			parsed = true
		case pgwire.Bind:
			_, rest, _ := pgwire.CString(body)
			name, parameters, _ := pgwire.CString(rest)
			if statement := s.statements.lookup(name).statement; statement != nil && !parsed {
				s.facts(statement)
				asked = asked.AddNumber(uint64(statement.Asked))
				if statement.Tags != nil {
					tags = *statement.Tags
				}
			}
			asked = asked.Add(parameters)
			for range boundParameters(parameters) {
				particular = true
				break
			}
		}
	}
	return asked, particular, tags
}

// readStatement is read of a statement that is prepared.
func readStatement(statement *pool.Statement) {
	text, types, _ := pgwire.CString([]byte(statement.Body))
	asked, tags := shed.CutTags(text)
	statement.Asked = shed.HashSeed.Add(asked).Add(types)
	if len(asked) < len(text) {
		statement.Tags = &tags
	}
}

// tenant is the client's tenant if no tag says otherwise.
func (s *session) tenant() *shed.Tenant {
	a := &s.admission
	if a.tenant == nil || a.tenantFor != s.settings || a.tenant.Evicted() {
		name, _ := s.settings.Value("application_name")
		a.tenant, a.tenantFor = s.pool.Tenant([]byte(name)), s.settings
	}
	return a.tenant
}

// isCritical reports whether all work of the user, or of the tenant, is critical.
func (p *Proxy) isCritical(user, tenant string) bool {
	return len(p.config.Critical) > 0 && (slices.Contains(p.config.Critical, user) || slices.Contains(p.config.Critical, tenant))
}

// OnFailed implements pool.Client: another attempt at the work at hand may come.
func (s *session) OnFailed() {
	if s.admission.work != 0 && !s.admission.failed {
		s.proxy.retries.Fail(s.admission.work, s.proxy.loop.Now())
	}
	s.admission.failed = true
}

// workDone notes the end of the work at hand, if it was not a failure.
func (s *session) workDone() {
	a := &s.admission
	if a.of != nil && !a.failed {
		s.pool.Succeeded(a.of)
	}
	a.work, a.failed = 0, false
}

// delayLogin reports whether the client has to wait before it may log in, because many
// do: resume is called then.
func (s *session) delayLogin(resume func()) bool {
	p := s.proxy
	if !p.config.LoginDelay {
		return false
	}
	name, _ := s.login.Value("application_name")
	delay := p.logins.Delay(s.pool.User+"\x00"+name, p.loop.Now(), s.pool.Storming(), p.newcomers.count)
	if delay == 0 {
		return false
	}
	p.stats.LoginsDelayed++
	s.admission.login = &reactor.Timer{Fire: resume}
	p.loop.SetTimer(s.admission.login, p.loop.Now()+delay)
	return true
}
