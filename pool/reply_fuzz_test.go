package pool

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/pool/pooltest"
	"github.com/billproxy/billproxy/pool/shed"
)

// A script of FuzzReplies is a list of bytes. Below shareOnLane, and from there on, each
// stands for what a client does; from tell on for what the server says; raw is followed
// by a number of bytes and those bytes, which the server says as they are.
const (
	secondClient = 0x40 // is added for the second client
	tell         = 0x80
	raw          = 0xff
)

// asks are what a client may do: messages, as words, and what follows them in this list.
var asks = []string{
	"Q|select 1", "P|s|select 1", "B||s|7", "B||s", "DS|s", "DP|", "E|", "CS|s", "CP|", "S", "H", "F|call",
	"d|1", "c", "f|no", "fail|42P05", "P|t|select 2", "B|p|t", "E|p", "Q|update",
	askShared, askSharedExtended, askRepeatable, askSettings, askBegin, askEffects, askCancel, askLeave, askVanish,
}

const (
	askShared         = "read on a lane"
	askSharedExtended = "read on a lane in the extended protocol"
	askRepeatable     = "read that may be run again"
	askSettings       = "other settings"
	askBegin          = "begin a transaction unseen"
	askEffects        = "change anything"
	askCancel         = "cancel"
	askLeave          = "leave with Terminate"
	askVanish         = "vanish"
)

// tells are what a server may say: messages, as words, and the time that passes.
var tells = []string{
	"1", "2", "3", "n", "t", "T|c", "D|1", "C|SELECT 1", "C|BEGIN", "C|DISCARD ALL", "C|DEALLOCATE ALL", "C|CREATE TABLE", "I", "s",
	"G", "H", "W", "c", "d|1", "V|1", "Z|I", "Z|T", "Z|E", "N|n", "A|channel", "S|TimeZone|UTC", "D|*20000", "D|*70000",
	"E|ERROR|22012|no", "E|ERROR|25006|no", "E|ERROR|26000|no", "E|ERROR|42P05|no", "E|ERROR|57014|no", "E|FATAL|57P01|no",
	tellPassing, tellLong, tellEnd,
}

const (
	tellPassing = "a millisecond"
	tellLong    = "a minute"
	tellEnd     = "the end of the connection"
)

// FuzzReplies has two clients use a pool of one server, alone and together, and the
// server say anything, in any pieces. Whatever that is, each client is told whole
// messages, and of each group that it is answered, lost or to be run again; servers
// that are not lent owe nothing; and what is kept of replies stays small.
func FuzzReplies(f *testing.F) {
	for _, e := range exchanges {
		f.Add(replyScript(e.send, e.reply), uint8(0))
	}
	read := []string{"T|c", "D|1", "C|SELECT 1", "Z|I"}
	f.Add(replyScript([]string{askShared}, slices.Concat(read, read)), uint8(3))
	f.Add(slices.Concat(replyScript([]string{askShared}, nil), replyScript([]string{askSharedExtended}, slices.Concat(read, []string{"1", "2"}, read))), uint8(9))
	f.Add(replyScript([]string{askShared}, slices.Concat(read, []string{"E|ERROR|25006|no", "Z|I"})), uint8(0))
	f.Add(replyScript([]string{"P|s|select 1", "B||s", "E|", "S"}, []string{"1", "2", "C|CREATE TABLE", "Z|I"}), uint8(0))
	f.Add(slices.Concat(
		replyScript([]string{"P|s|select 1", "S"}, []string{"1", "Z|I", tellEnd}),
		replyScript([]string{"B||s", "E|", "S"}, []string{"1", "2", "D|1", "C|SELECT 1", "Z|I"}),
	), uint8(0))
	f.Add(append(replyScript([]string{"Q|update"}, []string{"C|BEGIN", "Z|T"}), replyScript([]string{askVanish, "Q|select 1"}, nil)...), uint8(0))
	f.Add(replyScript([]string{askRepeatable}, []string{"E|ERROR|26000|no", "Z|I"}), uint8(1))
	f.Add(replyScript([]string{askSettings, "Q|select 1"}, []string{"C|SET", "Z|I", "C|SELECT 1", "Z|I"}), uint8(1))
	f.Add(replyScript([]string{askEffects, "Q|update"}, []string{"C|UPDATE 1", "Z|I", "T|c", "D|f", "C|SELECT 1", "Z|I"}), uint8(1))
	f.Fuzz(func(t *testing.T, script []byte, piece uint8) {
		script = script[:min(len(script), 1<<10)]
		p := newReplyPlay(t, int(piece))
		for len(script) > 0 {
			script = script[p.step(script):]
			p.check()
		}
		p.end()
	})
}

// replyScript is the script in which the first client asks and the server then answers.
// What is not in asks is asked like what is most like it.
func replyScript(asked, answers []string) []byte {
	var script []byte
	for _, word := range asked {
		i := slices.Index(asks, word)
		if i < 0 {
			kind, _, _ := strings.Cut(word, "|")
			i = slices.IndexFunc(asks, func(ask string) bool { return strings.HasPrefix(ask, kind) })
		}
		script = append(script, byte(i))
	}
	for _, word := range answers {
		if i := slices.Index(tells, word); i >= 0 {
			script = append(script, tell+byte(i))
			continue
		}
		for b := range slices.Chunk(pooltest.Backend(word), 255) {
			script = append(append(script, raw, byte(len(b))), b...)
		}
	}
	return script
}

// replyPlay is one run of a script.
type replyPlay struct {
	*fixture
	conn    *pooltest.Conn // of the server
	clients [2]*replyClient
	timing  Timing
	piece   int
	waits   int // long ones that may still come: they are slow

	// skips: PostgreSQL may have skipped what ends a group: a Sync that was sent ahead of
	// a COPY, or a query in a group that has failed.
	skips bool
}

func newReplyPlay(t *testing.T, piece int) *replyPlay {
	p := &replyPlay{fixture: newFixture(t, sharing(4, 1)), timing: Timing{average: 10 * time.Microsecond}, piece: piece, waits: 2}
	p.world.OnDial = func(d *pooltest.Dial) {
		conn := d.Connect()
		conn.OnSent = func(b []byte) { p.connected(conn, b) }
	}
	for i := range p.clients {
		p.clients[i] = p.newReplyClient()
	}
	return p
}

// connected welcomes a server that logs in, and ends the connection of a cancel request.
func (p *replyPlay) connected(conn *pooltest.Conn, sent []byte) {
	conn.OnSent = func([]byte) {}
	if packet, _, err := pgwire.ParseStartup(sent); err == nil && packet.Kind == pgwire.StartupCancel {
		conn.End(pooltest.EOF)
		return
	}
	p.conn = conn
	conn.Feed(pooltest.Backend(loginWords...))
}

// step does what the script begins with, and returns how long that is.
func (p *replyPlay) step(script []byte) int {
	defer p.world.Settle()
	first := script[0]
	switch {
	case first < tell:
		p.ask(&p.clients[first/secondClient], asks[int(first%secondClient)%len(asks)])
		return 1
	case first != raw:
		switch word := tells[int(first-tell)%len(tells)]; word {
		case tellPassing:
			p.world.Advance(time.Millisecond)
		case tellLong:
			if p.waits > 0 {
				p.waits--
				p.world.Advance(time.Minute)
			}
		case tellEnd:
			if p.conn != nil {
				p.conn.End(pooltest.EOF)
			}
		default:
			p.say(pooltest.Backend(word))
		}
		return 1
	case len(script) == 1:
		return 1
	}
	size := min(2+int(script[1]), len(script))
	p.say(script[2:size])
	return size
}

// say lets the server say something, if there is one.
func (p *replyPlay) say(b []byte) {
	if p.conn != nil && !p.conn.Closed() {
		if p.piece > 0 {
			p.conn.Piece = p.piece
		}
		p.conn.Feed(b)
		p.skips = p.skips || bytes.IndexByte(b, pgwire.CopyInResponse) >= 0
	}
}

// ask has a client do something, if a session could now.
func (p *replyPlay) ask(client **replyClient, what string) {
	if (*client).left {
		*client = p.newReplyClient()
	}
	c := *client
	switch {
	case what == askLeave || what == askVanish:
		c.leave(what == askVanish)
	case what == askCancel:
		c.cancel()
	case c.waiter.Waiting() || c.lane != nil:
	case c.place != nil:
		c.read(c.takePlace(), &p.timing, "Q|select 1")
	case what == askShared || what == askSharedExtended:
		if c.server != nil {
			return
		}
		words := []string{"Q|select 1"}
		if what == askSharedExtended {
			words = []string{"P|s|select 1", "B||s", "E|", "S"}
		}
		lane := p.pool.Share(&c.waiter, nil, shed.Work{Expected: p.timing.average}, true)
		if p.world.Settle(); lane == nil && c.place != nil {
			lane = c.takePlace()
		}
		c.read(lane, &p.timing, words...)
	case c.server == nil:
		c.acquire(p.pool)
		p.world.Settle()
		if c.server != nil {
			p.lent(c, what)
		}
	default:
		p.lent(c, what)
	}
}

// lent has the client use the server that it has, under the conditions that sessions
// keep.
func (p *replyPlay) lent(c *replyClient, what string) {
	s := c.server
	kind, _, _ := strings.Cut(what, "|")
	inCopy := kind == "d" || kind == "c" || kind == "f"
	begins := s.BetweenGroups() && !inCopy
	idle := s.Quiet() && s.TxStatus() == pgwire.TxIdle && s.BetweenGroups()
	switch {
	case s.Congested(), s.Skipping() && kind != "S", s.CopyIn() && !inCopy && kind != "H" && kind != "S",
		begins && (s.Unconfirmed() || s.Contended() && s.TxStatus() == pgwire.TxIdle):
	case what == askRepeatable:
		if idle {
			s.Begin(c, pooltest.Frontend("Q|select 1"), &p.timing, false)
			c.ask("Q|select 1")
		}
	case what == askSettings:
		if idle {
			s.Adopt(p.settings("x", string(rune('a'+c.asked%3))))
		}
	case what == askBegin:
		if idle {
			s.BeginTransaction("BEGIN")
		}
	case what == askEffects:
		s.Affect(&Effects{State: StateAny, Names: []string{"x"}, Meaning: c.asked%2 == 0})
	case kind == "B" && c.names[strings.Split(what, "|")[2]] == nil, kind == "DS" && c.names["s"] == nil:
	default:
		p.skips = p.skips || !begins && (kind == "Q" || kind == "F")
		c.ask(what)
	}
}

// check looks at the servers.
func (p *replyPlay) check() {
	for _, s := range p.pool.servers {
		ends := 0
		for i := range s.replies.count {
			if kind := s.replies.at(i).kind; kind.endsGroup() || kind == replyJoined {
				ends++
			}
		}
		complete := s.groups.count
		if s.partial {
			complete--
		}
		if ends != complete-s.answering {
			p.Fatalf("%d ends of groups are expected, of %d groups without %d of a batch that have been answered", ends, complete, s.answering)
		}
		if (s.client != nil) != (s.state == stateLeased) {
			p.Fatalf("state %d of a server with the client %v", s.state, s.client)
		}
		if s.state == stateIdle && (s.groups.count > 0 || s.replies.count > 0 || s.partial || s.copyIn || s.txStatus != pgwire.TxIdle) {
			p.Fatalf("an idle server owes %d replies to %d groups, transaction status %c", s.replies.count, s.groups.count, s.txStatus)
		}
		if len(s.held) > maxHeldBytes || len(s.description) > 2*maxWholeBytes {
			p.Fatalf("%d bytes of replies are held, and %d of a description", len(s.held), len(s.description))
		}
	}
	if p.conn != nil && !p.conn.Closed() && !p.conn.Paused() && p.conn.UnreadBytes() > maxWholeBytes {
		p.Fatalf("%d bytes of the server are not read", p.conn.UnreadBytes())
	}
	for _, c := range p.clients {
		if c.left {
			continue
		}
		if c.ready != c.ended {
			p.Fatalf("a client has had %d ReadyForQuery and heard of the end of %d groups", c.ready, c.ended)
		}
		if c.answered > c.asked {
			p.Fatalf("a client was answered %d groups of %d", c.answered, c.asked)
		}
		for i, messageType := range completions {
			if c.completed[i] > c.toComplete[i] {
				p.Fatalf("a client was told %c %d times and has asked for it %d times", messageType, c.completed[i], c.toComplete[i])
			}
		}
	}
}

// end has the server go, and looks whether everybody was told.
func (p *replyPlay) end() {
	if p.conn != nil {
		p.conn.End(pooltest.EOF)
	}
	p.world.Settle()
	p.check()
	for _, c := range p.clients {
		if !c.left && (c.lane != nil || c.server != nil && !c.server.Quiet() || !p.skips && c.answered != c.asked) {
			p.Fatalf("the server is gone and a client was answered %d groups of %d: %v", c.answered, c.asked, c.log)
		}
	}
}

// replyClient is a client that counts what becomes of its groups.
type replyClient struct {
	*testClient
	lane  *Server // that a group of its own is on
	place *Server // a lane on which it may have one
	left  bool    // it hears of nothing any more

	asked    int // complete groups
	answered int // or lost, or to be run again
	ended    int // with ReadyForQuery
	ready    int // ReadyForQuery

	// How often it has asked for each of completions, and was told.
	toComplete, completed [len(completions)]int

	partial []byte
}

// completions are the types of replies that answer one kind of message each.
const completions = string(pgwire.ParseComplete) + string(pgwire.BindComplete) + string(pgwire.CloseComplete)

func (p *replyPlay) newReplyClient() *replyClient {
	c := &replyClient{testClient: p.newClient()}
	c.waiter.Client = c
	return c
}

// ask sends a message on the server that the client holds.
func (c *replyClient) ask(word string) {
	kind, _, _ := strings.Cut(word, "|")
	if kind == "Q" || kind == "F" || kind == "S" && !c.server.CopyIn() {
		c.asked++
	}
	c.willSend(word)
	c.send(word)
}

// willSend counts a message that is about to be sent.
func (c *replyClient) willSend(word string) {
	switch word[0] {
	case pgwire.Parse:
		c.toComplete[0]++
	case pgwire.Bind:
		c.toComplete[1]++
	case pgwire.Close:
		c.toComplete[2]++
	}
}

// read sends a group on a lane, if there is one.
func (c *replyClient) read(lane *Server, timing *Timing, words ...string) {
	if lane == nil {
		return
	}
	c.asked++
	c.lane = lane
	lane.Begin(c, pooltest.Frontend(words...), timing, true)
	c.server = lane
	for _, word := range words {
		c.willSend(word)
		if word[0] == pgwire.Query {
			lane.Query(pooltest.Frontend(word))
			continue
		}
		c.sendOne(word, strings.Split(word, "|"))
	}
	c.server = nil
}

// takePlace returns the lane on which the client has waited for a place, if it is still
// there.
func (c *replyClient) takePlace() *Server {
	lane := c.place
	c.place = nil
	if !lane.Claim(&c.waiter) {
		return nil
	}
	return lane
}

// leave ends the client, as its session would.
func (c *replyClient) leave(vanished bool) {
	c.left = true
	c.f.pool.Abandon(&c.waiter)
	switch {
	case c.server != nil:
		c.server.Orphan(vanished)
	case c.lane != nil:
		c.lane.Withdraw(c)
	case c.place != nil:
		c.place.Decline(&c.waiter)
	}
	c.server, c.lane, c.place = nil, nil, nil
}

// cancel asks for what the client has under way to be cancelled.
func (c *replyClient) cancel() {
	switch {
	case c.server != nil && !c.server.Quiet():
		c.server.Cancel()
	case c.lane != nil && c.lane.CancelShared(c):
		c.answered++
		c.lane = nil
	}
}

// hears fails the test if the client has gone.
func (c *replyClient) hears() {
	if c.left {
		c.f.Fatal("a client that has left is told something")
	}
}

// OnLease implements Client.
func (c *replyClient) OnLease(server *Server) {
	c.hears()
	if server.Shared() {
		c.place = server
		return
	}
	c.server = server
}

// OnReply implements Client: it is told whole messages.
func (c *replyClient) OnReply(b []byte) {
	c.hears()
	c.partial = append(c.partial, b...)
	for {
		messageType, size, err := pgwire.PeekBackend(c.partial)
		switch i := strings.IndexByte(completions, messageType); {
		case err != nil:
			c.f.Fatalf("the client is told %.100q: %v", c.partial, err)
		case size == 0, size > len(c.partial):
			return
		case messageType == pgwire.ReadyForQuery:
			c.ready++
		case i >= 0:
			c.completed[i]++
		}
		c.partial = c.partial[:copy(c.partial, c.partial[size:])]
	}
}

// OnGroupEnd implements Client.
func (c *replyClient) OnGroupEnd(pgwire.TxStatus) {
	c.hears()
	c.answered++
	c.ended++
}

// OnSharedEnd implements Client.
func (c *replyClient) OnSharedEnd() {
	c.OnGroupEnd(pgwire.TxIdle)
	c.lane = nil
}

// OnRunAgain implements Client.
func (c *replyClient) OnRunAgain([]byte, AgainReason) {
	c.hears()
	c.answered++
	c.lane = nil
}

// OnSharedLost implements Client.
func (c *replyClient) OnAnswer([]byte) (taken bool) { panic("BUG: it follows nobody") }

func (c *replyClient) OnAlone(bool) { panic("BUG: it follows nobody") }

func (c *replyClient) OnSharedLost(loss Loss) {
	c.lane = nil
	c.OnServerLost(loss)
}

// OnServerLost implements Client: what was passed on in part, or was of a transaction,
// is the end of its session.
func (c *replyClient) OnServerLost(loss Loss) {
	c.hears()
	c.answered += loss.GroupCount
	c.server = nil
	if len(c.partial) > 0 && !loss.MidMessage {
		c.f.Fatalf("the client has a part of a message, %.100q, and is not told so", c.partial)
	}
	c.left = loss.MidMessage || loss.InTransaction || loss.State
}

// OnSettings implements Client: without its settings a session ends.
func (c *replyClient) OnSettings(refusal *pgwire.Error) {
	c.hears()
	if refusal != nil {
		c.leave(true)
	}
}
