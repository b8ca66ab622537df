package script

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/billproxy/billproxy/test/wire"
)

// player plays scripts on one of two twins.
type player struct {
	// Static after construction.
	address        string // of the clients
	user, database string
	patience       time.Duration
	admin          *pgx.Conn // a superuser's connection to the database itself

	setup    string // whose objects the database has, if they have been noted
	clients  map[string]*client
	messages int // received by all clients
}

// client is a connection of a script.
type client struct {
	*wire.Client

	owed          int               // how many ReadyForQuery
	reported      map[string]string // the parameters at the last one
	notifications []string          // received and not yet told
}

// play takes a step and returns, in words, what the client is told.
func (p *player) play(ctx context.Context, step *Step) (transcript []string) {
	switch step.Action {
	case Await:
		return p.await(ctx, step.SQL)
	case Login:
		_, transcript = p.login(ctx, step)
		return transcript
	default:
	}
	c := p.clients[step.Client]
	if c == nil {
		if c, transcript = p.login(ctx, &Step{Client: step.Client}); c == nil {
			return transcript
		}
	}
	switch step.Action {
	case Cancel:
		if err := c.Cancel(ctx); err != nil {
			transcript = append(transcript, fmt.Sprint("cancel: ", err))
		}
	case Disconnect:
		_ = c.Send(&pgproto3.Terminate{}) // it may be gone
		_ = c.Close()
		delete(p.clients, step.Client)
	case Vanish:
		_ = c.Vanish()
		delete(p.clients, step.Client)
	default:
		transcript = append(transcript, p.send(c, step)...)
	}
	return transcript
}

func (p *player) send(c *client, step *Step) (transcript []string) {
	for _, message := range step.Messages {
		if endsGroup(message) {
			c.owed++
		}
	}
	// A server that has closed the connection may have said why.
	if err := c.Send(step.Messages...); err != nil && !wire.IsEnd(err) {
		return []string{cause(err)}
	}
	return p.read(c, step.Until)
}

// read reads as far as until says.
func (p *player) read(c *client, until Until) (transcript []string) {
	count := max(1, until.Count)
	switch until.Message {
	case untilNothing:
		return nil
	case untilClose: // no message has that name
	case "":
		until.Message, count = "ReadyForQuery", c.owed
	case "ReadyForQuery":
		c.owed = count
	}
	for count > 0 {
		message, err := c.Receive()
		if err != nil {
			return append(transcript, cause(err))
		}
		p.messages++
		name, words := wire.Name(message), strings.ReplaceAll(wire.Words(message), p.database, "twin")
		switch name {
		case "NotificationResponse":
			c.notifications = append(c.notifications, words)
			continue
		case "ParameterStatus":
			continue
		case "ReadyForQuery":
			c.owed = max(0, c.owed-1)
			transcript = append(transcript, c.reports()...)
		}
		transcript = append(transcript, words)
		if name == until.Message {
			count--
		}
	}
	if c.TxStatus == 'I' && c.owed == 0 {
		// What has been notified before is delivered before ReadyForQuery.
		transcript = append(transcript, c.notifications...)
		c.notifications = nil
	}
	return transcript
}

// reports are the parameters that have another value than at the last
// ReadyForQuery: when and how often they are reported in between is nobody's business.
func (c *client) reports() []string {
	var changed []string
	for _, name := range slices.Sorted(maps.Keys(c.Parameters)) {
		if value := c.Parameters[name]; c.reported[name] != value {
			changed = append(changed, fmt.Sprintf("ParameterStatus %s=%s", name, value))
		}
	}
	c.reported = maps.Clone(c.Parameters)
	return changed
}

// inVain is in a transcript if the client has lost its patience.
const inVain = "nothing came"

// cause says why nothing was received.
func cause(err error) string {
	switch networkError, _ := errors.AsType[net.Error](err); {
	case wire.IsEnd(err):
		return "the connection was closed"
	case networkError != nil && networkError.Timeout():
		return inVain
	}
	return err.Error()
}

// login connects a client; nil if it was refused.
func (p *player) login(ctx context.Context, step *Step) (*client, []string) {
	if old := p.clients[step.Client]; old != nil {
		_ = old.Close()
		delete(p.clients, step.Client)
	}
	connection, err := wire.Dial(ctx, "tcp", p.address, p.patience)
	if err != nil {
		return nil, []string{err.Error()}
	}
	c := &client{Client: connection, owed: 1}
	startup := &pgproto3.StartupMessage{
		ProtocolVersion: step.Version,
		Parameters:      map[string]string{"user": p.user, "database": p.database},
	}
	if startup.ProtocolVersion == 0 {
		startup.ProtocolVersion = pgproto3.ProtocolVersion30
	}
	for _, parameter := range step.Parameters {
		startup.Parameters[parameter[0]] = parameter[1]
	}
	if err := c.Send(startup); err != nil {
		_ = c.Close()
		return nil, []string{cause(err)}
	}
	transcript := p.read(c, Until{})
	if c.TxStatus == 0 {
		_ = c.Close()
		return nil, transcript
	}
	p.clients[step.Client] = c
	return c, transcript
}

// await polls until the SQL returns true.
func (p *player) await(ctx context.Context, sql string) []string {
	for deadline := time.Now().Add(p.patience); ; time.Sleep(2 * time.Millisecond) {
		var is bool
		if err := p.admin.QueryRow(ctx, sql).Scan(&is); err != nil {
			return []string{"await: " + err.Error()}
		}
		if is {
			return nil
		}
		if time.Now().After(deadline) {
			return []string{inVain}
		}
	}
}

// leave closes all connections.
func (p *player) leave() {
	for name, c := range p.clients {
		_ = c.Send(&pgproto3.Terminate{}) // it may be gone
		_ = c.Close()
		delete(p.clients, name)
	}
}
