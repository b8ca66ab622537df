package proxy

import (
	"maps"
	"slices"

	"github.com/billproxy/billproxy/pool"
)

// statementNames is what a client calls its prepared statements. Changes take
// effect at once, because the messages behind them rely on it, and are undone if
// an error makes PostgreSQL skip the message that made them.
type statementNames struct {
	named   map[string]namedStatement // nil until the first one
	unnamed namedStatement

	// long: the unnamed statement is too long to be kept and lives on the pinned
	// server only.
	long bool

	changes []statementChange

	// recent are the Describes under way. The number of each is its position plus one.
	recent []describedName
}

// count is how many statements the client has prepared.
func (n *statementNames) count() int {
	if n.unnamed.statement != nil || n.long {
		return len(n.named) + 1
	}
	return len(n.named)
}

// describedName is a name of which a Describe is under way, and how many changes there
// were in front of it.
type describedName struct {
	name    string
	changes int
}

// namedStatement is what a name stands for.
type namedStatement struct {
	statement *pool.Statement

	// described is the statement's epoch when the client was last told what the
	// statement returns, 0 if it was not. portal is that when it was last told what a
	// portal of it returns, which it may rely on in executions that do not ask.
	described, portal uint32

	// meaning is that of the settings at that time.
	meaning string
}

// relies reports whether the client relies on what it was told. asks: it asks anew what
// its portal returns.
func (n *namedStatement) relies(asks bool) bool {
	return n.described != 0 || !asks && n.portal != 0
}

// outdated reports whether the client was told something before the given epoch that
// it relies on.
func (n *namedStatement) outdated(epoch uint32, asks bool) bool {
	return n.described != 0 && n.described < epoch || !asks && n.portal != 0 && n.portal < epoch
}

// statementChange is one change that is not certain yet. Its tag is its position
// plus one.
type statementChange struct {
	name     string
	previous namedStatement

	// all: it is none of a name, but the execution of a statement that may take all names
	// away, and those that are given behind it stay. done: it has.
	all, done bool
}

// get returns the statement of that name, or nil.
func (n *statementNames) get(name []byte) *pool.Statement {
	return n.lookup(name).statement
}

// set makes the name stand for a statement, or for none if it is nil, and returns
// the tag of the change. The reference of what it stood for is kept until settle.
func (n *statementNames) set(name []byte, statement *pool.Statement) (tag uint32) {
	change := statementChange{name: string(name), previous: n.lookup(name)}
	n.put(change.name, namedStatement{statement: statement})
	n.changes = append(n.changes, change)
	return uint32(len(n.changes))
}

// setNone makes all names stand for nothing.
func (n *statementNames) setNone() {
	for _, name := range slices.Sorted(maps.Keys(n.named)) {
		n.set([]byte(name), nil)
	}
}

// mark notes that a statement is executed that may take all names away, and returns the
// tag of that.
func (n *statementNames) mark() (tag uint32) {
	n.changes = append(n.changes, statementChange{all: true})
	return uint32(len(n.changes))
}

func (n *statementNames) put(name string, statement namedStatement) {
	switch {
	case name == "":
		n.unnamed = statement
	case statement.statement == nil:
		delete(n.named, name)
	default:
		if n.named == nil {
			n.named = map[string]namedStatement{}
		}
		n.named[name] = statement
	}
}

// describe notes that the client is told what the statement returns.
func (n *statementNames) describe(name []byte, meaning string) {
	if len(name) == 0 {
		n.unnamed.described, n.unnamed.meaning = n.unnamed.statement.Epoch, meaning
		return
	}
	named := n.named[string(name)]
	named.described, named.meaning = named.statement.Epoch, meaning
	n.named[string(name)] = named
}

// told notes that the Describe with that number has been answered, with
// what the statement returned in that epoch under settings with that meaning.
func (n *statementNames) told(statement *pool.Statement, number, epoch uint32, meaning string) {
	if number == 0 || int(number) > len(n.recent) {
		return
	}
	recent := n.recent[number-1]
	tell := func(named *namedStatement) {
		if named.statement == statement { // else the name stands for another by now
			named.described, named.meaning = epoch, meaning
		}
	}
	for i := min(recent.changes, len(n.changes)); i < len(n.changes); i++ {
		if change := &n.changes[i]; change.name == recent.name && !change.all { // which may yet be undone
			tell(&change.previous)
			return
		}
	}
	if named := n.lookup([]byte(recent.name)); named.statement != nil {
		tell(&named)
		n.put(recent.name, named)
	}
}

// describing reports whether a Describe of the name is under way.
func (n *statementNames) describing(name []byte) bool {
	return slices.ContainsFunc(n.recent, func(d describedName) bool { return d.name == string(name) })
}

// lookup returns what the name stands for.
func (n *statementNames) lookup(name []byte) namedStatement {
	if len(name) == 0 {
		return n.unnamed
	}
	return n.named[string(name)]
}

// describePortal notes that the client is told what portals of the statement return.
// A client that does not name its statement parses it before it relies on that.
func (n *statementNames) describePortal(name []byte, meaning string) {
	n.toldPortal(name, n.named[string(name)].statement.Epoch, meaning)
}

// toldPortal notes that the client was told what portals of the statement returned in that
// epoch, under settings with that meaning.
func (n *statementNames) toldPortal(name []byte, epoch uint32, meaning string) {
	named := n.named[string(name)]
	named.portal = epoch
	if named.described == 0 {
		named.meaning = meaning
	}
	n.named[string(name)] = named
}

// describeAnyPortal notes that the client is told what a portal of any statement
// returns.
func (n *statementNames) describeAnyPortal() {
	for name, named := range n.named {
		named.portal = named.statement.Epoch
		n.named[name] = named
	}
}

// describedBefore reports whether the client relies, by any name, on what it was told
// of the statement before the given epoch. asks: it asks anew what its portals return.
func (n *statementNames) describedBefore(statement *pool.Statement, epoch uint32, asks bool) bool {
	for _, named := range n.named {
		if named.statement == statement && named.outdated(epoch, asks) {
			return true
		}
	}
	return n.unnamed.statement == statement && n.unnamed.outdated(epoch, asks)
}

// unsettled reports whether there are changes that may yet be undone.
func (n *statementNames) unsettled() bool { return len(n.changes) > 0 }

// undo takes back the changes with tags of at least lowestTag; 0 stands for none.
func (n *statementNames) undo(registry *pool.Registry, lowestTag uint32) {
	if lowestTag == 0 {
		return
	}
	for i := len(n.changes) - 1; i >= int(lowestTag)-1; i-- {
		change := n.changes[i]
		n.changes[i] = statementChange{}
		n.changes = n.changes[:i]
		if change.all {
			continue
		}
		if current := n.lookup([]byte(change.name)).statement; current != nil {
			registry.Release(current)
		}
		n.put(change.name, change.previous)
		n.long = n.long && change.name != ""
	}
}

// settle makes the changes final.
func (n *statementNames) settle(registry *pool.Registry) {
	n.recent = nil
	if len(n.changes) == 0 {
		return
	}
	for _, change := range n.changes {
		if change.previous.statement != nil {
			registry.Release(change.previous.statement)
		}
	}
	clear(n.changes)
	n.changes = n.changes[:0]
	if cap(n.changes) > maxIdleChanges {
		n.changes = nil
	}
}

// maxIdleChanges is how many changes a client that is idle keeps room for.
const maxIdleChanges = 4

// dropUnnamed forgets the unnamed statement.
func (n *statementNames) dropUnnamed(registry *pool.Registry) {
	if n.unnamed.statement != nil {
		registry.Release(n.unnamed.statement)
	}
	n.unnamed, n.long = namedStatement{}, false
}

// drop forgets every statement but those that were prepared behind the one that drops
// them, and keeps the numbers of the changes under way.
func (n *statementNames) drop(registry *pool.Registry) {
	changes, kept := n.changes, map[string]namedStatement{}
	drops := func(change statementChange) bool { return change.all && !change.done }
	if i := slices.IndexFunc(changes, drops); i >= 0 {
		changes[i].done = true
		for _, change := range changes[i+1:] {
			if named := n.lookup([]byte(change.name)); !change.all && named.statement != nil && kept[change.name].statement == nil {
				registry.Retain(named.statement)
				kept[change.name] = named
			}
		}
	}
	n.changes = append([]statementChange(nil), changes...)
	n.releaseAll(registry)
	for i := range changes {
		changes[i].previous = namedStatement{}
	}
	n.changes = changes
	for name, named := range kept {
		n.put(name, named)
	}
}

// releaseAll forgets every statement.
func (n *statementNames) releaseAll(registry *pool.Registry) {
	n.settle(registry)
	for _, named := range n.named {
		registry.Release(named.statement)
	}
	n.dropUnnamed(registry)
	*n = statementNames{}
}
