package sim

import (
	"encoding/binary"
	"strings"

	"github.com/billproxy/billproxy/pool/pgwire"
)

// This file is the extended query protocol of a backend.
// See https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-EXT-QUERY

func (b *Backend) parse(body []byte) {
	name, rest, ok := pgwire.CString(body)
	text, rest, ok2 := pgwire.CString(rest)
	if !ok || !ok2 || len(rest) < 2 || len(rest) != 2+4*int(binary.BigEndian.Uint16(rest)) {
		b.raise("08P01", "invalid message format")
		return
	}
	if len(name) == 0 {
		b.dropUnnamed() // even if this one is refused
	}
	statements, ok := parseSQL(string(text))
	switch {
	case !ok:
		b.raise("42601", "syntax error at or near \""+strings.ToValidUTF8(firstWord(text), "")+"\"")
		return
	case len(statements) > 1:
		b.raise("42601", "cannot insert multiple commands into a prepared statement")
		return
	}
	s := &statement{}
	if len(statements) == 1 {
		s = statements[0]
	}
	if b.txStatus == pgwire.TxFailed && !s.endsTransaction() && s.kind != kindEmpty {
		b.raise("25P02", abortedMessage)
		return
	}
	if len(name) > 0 && b.statements[string(name)] != nil {
		b.raise("42P05", "prepared statement \""+string(name)+"\" already exists")
		return
	}
	b.statements[string(name)] = &prepared{text: string(text), statement: s, version: b.version(s)}
	b.emit(pgwire.AppendEmpty(b.buffer(), pgwire.ParseComplete))
}

func (b *Backend) bind(body []byte) {
	portalName, rest, ok := pgwire.CString(body)
	name, rest, ok2 := pgwire.CString(rest)
	if !ok || !ok2 {
		b.raise("08P01", "invalid message format")
		return
	}
	p := b.statements[string(name)]
	if p == nil {
		b.raiseUndefined(string(name))
		return
	}
	values, ok := bindValues(rest)
	if !ok {
		b.raise("08P01", "invalid message format")
		return
	}
	if len(values) != p.statement.parameterCount {
		b.raise("08P01", "bind message supplies a wrong number of parameters")
		return
	}
	if b.txStatus == pgwire.TxFailed && (!p.statement.endsTransaction() || len(values) > 0) {
		b.raise("25P02", abortedMessage)
		return
	}
	if len(portalName) > 0 && b.portals[string(portalName)] != nil {
		b.raise("42P03", "cursor \""+string(portalName)+"\" already exists")
		return
	}
	if b.changed(p) {
		return
	}
	told := p.shape
	b.portals[string(portalName)] = &portal{statement: p.statement, run: p.statement.resolve(values), version: p.version, shape: &told}
	b.emit(pgwire.AppendEmpty(b.buffer(), pgwire.BindComplete))
}

// bindValues reads the parameter values of a Bind message, all in text.
func bindValues(b []byte) (values []string, ok bool) {
	if len(b) < 2 {
		return nil, false
	}
	formats := int(binary.BigEndian.Uint16(b))
	if b = b[2:]; len(b) < 2*formats+2 {
		return nil, false
	}
	b = b[2*formats:]
	count := int(binary.BigEndian.Uint16(b))
	b = b[2:]
	for range count {
		if len(b) < 4 {
			return nil, false
		}
		n := int(int32(binary.BigEndian.Uint32(b)))
		if b = b[4:]; n < 0 || len(b) < n {
			return nil, false
		}
		values = append(values, string(b[:n]))
		b = b[n:]
	}
	return values, len(b) >= 2 && len(b) == 2+2*int(binary.BigEndian.Uint16(b))
}

// raiseUndefined raises the error of a prepared statement that is not there. No
// client ever gets it by the name that the proxy uses.
func (b *Backend) raiseUndefined(name string) {
	if name == "" {
		b.raise("26000", "unnamed prepared statement does not exist")
		return
	}
	b.raise("26000", "prepared statement \""+name+"\" does not exist")
}

func (b *Backend) describe(body []byte) {
	if len(body) < 2 {
		b.raise("08P01", "invalid message format")
		return
	}
	name := string(body[1 : len(body)-1])
	var s *statement
	var told *shape
	version := 0
	if body[0] == pgwire.KindStatement {
		p := b.statements[name]
		if p == nil {
			b.raiseUndefined(name)
			return
		}
		s, told, version = p.statement, &p.shape, p.version
	} else {
		p := b.portals[name]
		if p == nil {
			b.raise("34000", "portal \""+name+"\" does not exist")
			return
		}
		s, told, version = p.statement, p.shape, p.version
	}
	if b.txStatus == pgwire.TxFailed && s.returnsRows() {
		b.raise("25P02", abortedMessage)
		return
	}
	if body[0] == pgwire.KindStatement {
		if b.changed(b.statements[name]) {
			return
		}
		out := pgwire.AppendHeader(b.buffer(), pgwire.ParameterDescription, 2+4*s.parameterCount)
		out = binary.BigEndian.AppendUint16(out, uint16(s.parameterCount))
		for range s.parameterCount {
			out = binary.BigEndian.AppendUint32(out, 25)
		}
		b.emit(out)
	}
	if s.returnsRows() {
		b.emitColumns(s, version, told)
		return
	}
	b.emit(pgwire.AppendEmpty(b.buffer(), pgwire.NoData))
}

func (b *Backend) execute(body []byte) {
	name, rest, ok := pgwire.CString(body)
	if !ok || len(rest) != 4 {
		b.raise("08P01", "invalid message format")
		return
	}
	p := b.portals[string(name)]
	if p == nil {
		b.raise("34000", "portal \""+string(name)+"\" does not exist")
		return
	}
	b.begin(&execution{portal: p, maxRows: int(binary.BigEndian.Uint32(rest))})
}

func (b *Backend) close(body []byte) {
	if len(body) < 2 {
		b.raise("08P01", "invalid message format")
		return
	}
	name := string(body[1 : len(body)-1])
	if body[0] == pgwire.KindPortal {
		delete(b.portals, name)
	} else {
		delete(b.statements, name) // its portals stay, whatever the manual says
	}
	b.emit(pgwire.AppendEmpty(b.buffer(), pgwire.CloseComplete))
}

// version is the version of what a select selects from now. The twin of a client
// knows of one only; which one its client sees is another matter.
func (b *Backend) version(s *statement) int {
	if b.twin != nil || s.kind != kindSelect {
		return 0
	}
	return b.postgres.versions[s.variant.number]
}

// changed raises the error of a prepared statement that would return other columns
// than when it was prepared.
func (b *Backend) changed(p *prepared) bool {
	if p.version == b.version(p.statement) {
		return false
	}
	b.emit(appendReport(b.buffer(), pgwire.ErrorResponse, "ERROR", "0A000", "cached plan must not change result type", "RevalidateCachedQuery"))
	b.flush()
	b.fail()
	return true
}
