package sim

import (
	"encoding/binary"
	"strconv"
	"strings"
	"time"

	"github.com/billproxy/billproxy/pool/pgwire"
)

// execution is a statement that runs: all of a simple query's, or one Execute.
type execution struct {
	portal  *portal
	simple  bool
	maxRows int // of this Execute; 0 is no limit

	delayed bool // the delay has begun or there is none
	sent    int  // rows sent by this Execute
	copied  int  // CopyData messages received
}

// run is a statement with its parameters put in.
type run struct {
	tag                                         Tag
	variant, rows, width, delay, notices, fails int
	writes                                      bool
}

// resolve puts the parameters in.
func (s *statement) resolve(parameters []string) run {
	text := func(v value) string {
		if v.parameter > 0 && v.parameter <= len(parameters) {
			return parameters[v.parameter-1]
		}
		return v.text
	}
	number := func(v value) int {
		n, _ := strconv.Atoi(text(v))
		return n
	}
	r := run{
		variant: number(s.variant), rows: number(s.rows), width: number(s.width),
		delay: number(s.delay), notices: number(s.notices), fails: number(s.fail), writes: number(s.writes) == 1,
	}
	r.writes = r.writes && (r.rows > 0 || r.fails == 1) // the first row does
	r.tag, _ = parseTag(text(s.tag))
	return r
}

// begin starts a statement; proceed goes on with it.
func (b *Backend) begin(e *execution) {
	s := e.portal.statement
	b.during = b.txStatus
	if b.txStatus == pgwire.TxFailed && !s.endsTransaction() && s.kind != kindEmpty {
		b.raise("25P02", abortedMessage)
		return
	}
	if e.portal.done && !s.returnsRows() && s.kind != kindEmpty {
		b.raise("55000", "portal cannot be run")
		return
	}
	if len(b.saved) == 0 { // a transaction begins
		b.saved = append(b.saved, b.settings...)
		b.savedHeld = b.held
		readOnly, _ := b.setting("default_transaction_read_only")
		b.readOnly = readOnly == "on"
	}
	if b.readOnly && (s.kind == kindUpdate || s.kind == kindCopyIn) {
		b.raise("25006", "cannot write in a read-only transaction")
		return
	}
	b.current = e
	if b.twin == nil && !e.portal.started && !e.portal.run.writes {
		b.world().executing(b, s, &e.portal.run)
	}
}

// proceed takes the statement at hand further, to its end unless it has to wait.
func (b *Backend) proceed() {
	e := b.current
	p, r := e.portal, &e.portal.run
	if !e.delayed && !p.started {
		e.delayed = true
		if r.delay > 0 && b.twin == nil {
			b.sleep(e, time.Duration(r.delay)*time.Millisecond)
			return
		}
	}
	if !p.started && p.statement.kind != kindSelect {
		b.notify(r)
	}
	switch p.statement.kind {
	case kindEmpty:
		b.emit(pgwire.AppendEmpty(b.buffer(), pgwire.EmptyQueryResponse))
		b.current, p.done = nil, true
	case kindSelect:
		b.sendRows(e)
	case kindCopyOut:
		b.sendCopy(e)
	case kindReading:
		b.read(p)
	case kindCopyIn:
		p.started = true
		b.copyIn = true
		b.emit(append(pgwire.AppendHeader(b.buffer(), pgwire.CopyInResponse, 5), 0, 0, 1, 0, 0))
		b.flush()
	default:
		b.runCommand(e)
	}
}

// notify sends the notices that the statement raises when it begins to run.
func (b *Backend) notify(r *run) {
	for i := range r.notices {
		b.emit(appendReport(b.buffer(), pgwire.NoticeResponse, "NOTICE", "00000", r.tag.String()+" notice "+strconv.Itoa(i), "sim"))
		b.flush()
	}
}

// sleep waits for d, unless the statement is cancelled before.
func (b *Backend) sleep(e *execution, d time.Duration) {
	b.waiting = true
	b.world().after(d, func() {
		if b.current == e && b.waiting && !b.congested {
			b.waiting = false
			b.work()
		}
	})
}

// crowded reports whether the client has to read before more is sent.
func (b *Backend) crowded() bool {
	if b.twin == nil && b.conn.peer.unsent.len() > congestedBytes {
		b.waiting, b.congested = true, true
	}
	return b.congested
}

// sendRows sends what a select returns.
func (b *Backend) sendRows(e *execution) {
	p, r := e.portal, &e.portal.run
	if !p.started {
		if e.simple {
			b.emitColumns(p.statement, p.version, p.shape)
		}
		b.notify(r) // PostgreSQL says first what the columns are
	}
	if !b.mayWrite(p) {
		return
	}
	p.started = true
	for {
		if e.maxRows > 0 && e.sent == e.maxRows {
			b.emit(pgwire.AppendEmpty(b.buffer(), pgwire.PortalSuspended))
			b.current = nil
			return
		}
		if r.fails == p.row+1 {
			b.raise("22012", "division by zero in "+r.tag.String())
			return
		}
		if p.row >= r.rows {
			break
		}
		if b.crowded() {
			return
		}
		p.row++
		e.sent++
		b.shape = p.shape
		b.emit(appendRow(b.buffer(), r.tag.String(), strconv.Itoa(r.variant), strconv.Itoa(p.row), padding(r, p.row), versionName(p.version)))
	}
	p.done = true
	b.complete("SELECT " + strconv.Itoa(e.sent))
}

// mayWrite lets a query whose text hides a write begin, or fail: PostgreSQL finds out
// when it makes the first row, behind what it says of the columns.
func (b *Backend) mayWrite(p *portal) bool {
	switch {
	case !p.run.writes || p.started:
	case b.readOnly:
		b.raise("25006", "cannot write in a read-only transaction")
		return false
	case b.twin == nil:
		b.world().executing(b, p.statement, &p.run)
	}
	return true
}

// sendCopy sends what a COPY TO STDOUT returns.
func (b *Backend) sendCopy(e *execution) {
	p, r := e.portal, &e.portal.run
	if !p.started {
		b.emit(append(pgwire.AppendHeader(b.buffer(), pgwire.CopyOutResponse, 5), 0, 0, 1, 0, 0))
		if !b.mayWrite(p) {
			return
		}
		p.started = true
	}
	for p.row < r.rows || r.fails == p.row+1 {
		if r.fails == p.row+1 {
			b.raise("22012", "division by zero in "+r.tag.String())
			return
		}
		if b.crowded() {
			return
		}
		p.row++
		line := r.tag.String() + "\t" + strconv.Itoa(p.row) + "\t" + padding(r, p.row) + "\n"
		b.emit(pgwire.AppendMessage(b.buffer(), pgwire.CopyData, []byte(line)))
	}
	p.done = true
	b.emit(pgwire.AppendEmpty(b.buffer(), pgwire.CopyDone))
	b.complete("COPY " + strconv.Itoa(p.row))
}

// copyMessage acts on a message while COPY data is read. Flush and Sync are
// ignored then.
// See https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-COPY
func (b *Backend) copyMessage(messageType byte, body []byte) {
	e := b.current
	r := &e.portal.run
	b.during = b.txStatus
	switch messageType {
	case pgwire.CopyData:
		e.copied++
		if b.twin == nil {
			b.world().copying(b, r.tag, body)
		}
		if r.fails == e.copied {
			b.raise("22P04", "extra data in "+r.tag.String())
		}
	case pgwire.CopyDone:
		b.copyIn = false
		e.portal.done = true
		b.complete("COPY " + strconv.Itoa(e.copied))
	case pgwire.CopyFail:
		reason, _, _ := pgwire.CString(body)
		b.raise("57014", "COPY from stdin failed: "+string(reason))
	case pgwire.Flush, pgwire.Sync:
	case pgwire.Terminate:
		b.end()
	default:
		b.raise("08P01", "unexpected message type during COPY from stdin")
		b.emitError("FATAL", "08P01", "terminating connection because protocol synchronization was lost")
		b.end()
	}
}

// runCommand runs a statement without rows.
func (b *Backend) runCommand(e *execution) {
	p, r := e.portal, &e.portal.run
	s := p.statement
	p.started, p.done = true, true
	if r.fails > 0 {
		b.raise("23505", "duplicate key in "+r.tag.String())
		return
	}
	tag := ""
	switch s.kind {
	case kindUpdate:
		tag = "UPDATE 1"
	case kindBegin:
		tag = s.name
		b.readOnly = b.readOnly || s.readOnly
		if b.txStatus != pgwire.TxIdle {
			b.warn("25001", "there is already a transaction in progress")
			break
		}
		b.txStatus, b.txClient = pgwire.TxActive, r.tag.Client
	case kindCommit, kindRollback:
		tag = b.endTransaction(s.kind)
	case kindSet, kindSetConfig:
		for _, change := range s.settings {
			if code := b.set(change.name, change.value); code != "" {
				b.raise(code, "invalid value for parameter \""+change.name+"\"")
				return
			}
		}
		tag = "SET"
		if s.kind == kindSetConfig {
			if e.simple {
				b.emitColumns(s, 0, nil)
			}
			var shown []string
			for _, change := range s.settings {
				value, _ := b.setting(change.name)
				shown = append(shown, value)
			}
			b.emit(appendRow(b.buffer(), shown...))
			tag = "SELECT 1"
		}
	case kindReset:
		b.resetSetting(s.name)
		tag = "RESET"
	case kindResetAll, kindDiscardAll, kindDeallocateAll:
		var ok bool
		if tag, ok = b.discard(s.kind); !ok {
			return
		}
	case kindHold, kindRelease, kindClean:
		var ok bool
		if tag, ok = b.hold(s, r.tag.Client); !ok {
			return
		}
	case kindInspect:
		if e.simple {
			b.emitColumns(s, 0, nil)
		}
		tag = b.answer(s.inspection)
	case kindShow:
		current, ok := b.setting(s.name)
		if !ok {
			b.raise("42704", "unrecognized configuration parameter \""+s.name+"\"")
			return
		}
		if e.simple {
			b.emitColumns(s, 0, nil)
		}
		b.emit(appendRow(b.buffer(), current))
		tag = "SHOW"
	default:
		panic("BUG: no command")
	}
	b.complete(tag)
}

// endTransaction runs COMMIT or ROLLBACK.
func (b *Backend) endTransaction(kind statementKind) (tag string) {
	tag = "COMMIT"
	if kind == kindRollback || b.txStatus == pgwire.TxFailed {
		tag = "ROLLBACK"
	}
	if b.txStatus == pgwire.TxIdle {
		b.warn("25P01", "there is no transaction in progress")
		return tag
	}
	if tag == "ROLLBACK" {
		b.restore()
	}
	b.saved = b.saved[:0]
	b.txStatus, b.txClient = pgwire.TxIdle, 0
	clear(b.portals)
	return tag
}

func (b *Backend) resetSetting(name string) {
	for i := range b.settings {
		if b.settings[i].name == strings.ToLower(name) {
			b.settings[i].value = b.settings[i].initial
		}
	}
}

// discard runs RESET ALL, DISCARD ALL or DEALLOCATE ALL.
func (b *Backend) discard(kind statementKind) (tag string, ok bool) {
	if kind == kindDiscardAll && b.txStatus != pgwire.TxIdle {
		b.raise("25001", "DISCARD ALL cannot run inside a transaction block")
		return "", false
	}
	if kind != kindDeallocateAll {
		for i := range b.settings {
			b.settings[i].value = b.settings[i].initial
		}
	}
	if kind != kindResetAll {
		clear(b.statements)
	}
	switch kind {
	case kindDiscardAll:
		clear(b.portals)
		b.held = held{}
	case kindDeallocateAll:
		b.held[heldPrepared] = 0
	default:
	}
	return map[statementKind]string{
		kindResetAll: "RESET", kindDiscardAll: "DISCARD ALL", kindDeallocateAll: "DEALLOCATE ALL",
	}[kind], true
}

func (b *Backend) warn(code, message string) {
	b.emit(appendReport(b.buffer(), pgwire.NoticeResponse, "WARNING", code, message, "sim"))
	b.flush()
}

// complete ends the statement at hand.
func (b *Backend) complete(tag string) {
	b.current = nil
	b.emit(append(append(pgwire.AppendHeader(b.buffer(), pgwire.CommandComplete, len(tag)+1), tag...), 0))
}

// emitColumns sends the RowDescription of a statement. The last column of a select
// is named after the version of what it selects from.
func (b *Backend) emitColumns(s *statement, version int, shape *shape) {
	columns := []string{"tag", "variant", "number", "padding", versionName(version)}
	if s.kind != kindSelect {
		columns, shape = columns[:1], nil
	}
	b.shape = shape
	out := append(b.buffer(), pgwire.RowDescription, 0, 0, 0, 0)
	out = binary.BigEndian.AppendUint16(out, uint16(len(columns)))
	for _, column := range columns {
		out = append(append(out, column...), 0)
		out = append(out, 0, 0, 0, 0, 0, 0, 0, 0, 0, 25, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0)
	}
	putLength(out)
	b.emit(out)
}

// versionName is the value, and the name, of a select's last column. It is always
// two bytes long.
func versionName(version int) string { return "v" + strconv.Itoa(version%10) }

// shape is what a client knows of the rows that it will get: which version of what
// is selected from they are made of.
type shape struct {
	known   bool
	version byte
}

// appendRow appends a DataRow.
func appendRow(out []byte, columns ...string) []byte {
	start := len(out)
	out = append(out, pgwire.DataRow, 0, 0, 0, 0)
	out = binary.BigEndian.AppendUint16(out, uint16(len(columns)))
	for _, column := range columns {
		out = binary.BigEndian.AppendUint32(out, uint32(len(column)))
		out = append(out, column...)
	}
	putLength(out[start:])
	return out
}

// padding is text of a row's width in which the tag repeats, so that a piece of it
// tells whose it is.
func padding(r *run, row int) string {
	if r.width == 0 {
		return ""
	}
	unit := r.tag.String() + "/" + strconv.Itoa(row) + ";"
	return strings.Repeat(unit, r.width/len(unit)+1)[:r.width]
}
