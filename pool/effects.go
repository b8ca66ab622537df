package pool

import (
	"bytes"
	"slices"
	"strings"
)

// StateSet is a set of kinds of state that a session has on its server and that the
// end of a transaction leaves there.
type StateSet uint16

// The kinds of state. Settings move with the client from server to server; all
// others pin it to the server that has them.
const (
	// StateSettings is run-time parameters that PostgreSQL can list.
	StateSettings StateSet = 1 << iota
	// StateHiddenSettings is parameters of extensions and applications of which
	// nobody can tell the names: PostgreSQL does not list them.
	StateHiddenSettings
	// StateTemporary is temporary tables and whatever else is in their schema.
	StateTemporary
	// StateChannels is what the session listens to.
	StateChannels
	// StateLocks is advisory locks that outlive their transaction.
	StateLocks
	// StateCursors is cursors WITH HOLD.
	StateCursors
	// StatePrepared is statements that were prepared with PREPARE.
	StatePrepared
	// StateLibraries is libraries that were loaded with LOAD.
	StateLibraries
	// StateSeed is the seed of random().
	StateSeed
	// StateSequences is what currval and lastval return.
	StateSequences
	// StateLongStatement is an unnamed statement that is too long to be kept.
	StateLongStatement
	// StateOther is what only a few functions make and nothing tells of, such as a
	// temporary replication slot.
	StateOther
	// StateFunctions is what functions of the database change, of which nothing but
	// their sources tells. It pins nobody: the kinds that are possible take its place.
	StateFunctions

	stateEnd
)

// StateAny is what a statement may change of which nothing is known but that it names
// no setting; if only functions of the database can, StateFunctions is.
const StateAny = StateSettings | StateTemporary | StateChannels | StateLocks | StateCursors | StatePrepared

var stateNames = map[StateSet]string{
	StateSettings:       "settings",
	StateHiddenSettings: "settings that cannot be listed",
	StateTemporary:      "temporary objects",
	StateChannels:       "LISTEN",
	StateLocks:          "advisory locks",
	StateCursors:        "cursors WITH HOLD",
	StatePrepared:       "PREPARE",
	StateLibraries:      "LOAD",
	StateSeed:           "seed of random()",
	StateSequences:      "currval and lastval",
	StateLongStatement:  "long unnamed statement",
	StateOther:          "other session state",
	StateFunctions:      "what functions change",
}

// Names returns the kinds in words.
func (s StateSet) Names() []string {
	var names []string
	for kind := StateSet(1); kind < stateEnd; kind <<= 1 {
		if s&kind != 0 {
			names = append(names, stateNames[kind])
		}
	}
	return names
}

// String returns the kinds in words, with commas between.
func (s StateSet) String() string { return strings.Join(s.Names(), ", ") }

// Effects is what a statement may do to its session that outlives its transaction. It
// is found out from the text and shared by all who run it; nil stands for nothing.
type Effects struct {
	// State is the kinds of state that may change. Settings that are in Names only
	// are not in it.
	State StateSet

	// Names are the settings that may change, in lower case.
	Names []string

	// BoundNames are the numbers, from 1, of parameters of the statement that are
	// names of settings too.
	BoundNames []int

	// Arguments are strings, in lower case, that may be names of settings too, of
	// applications: the statement hands them to functions.
	Arguments []string

	// Functions are the functions of the database that it calls, by name, if it calls
	// some; none of them stands for all.
	Functions []string

	// Writes: it may come upon functions of the database that it does not name: those of
	// triggers, defaults, constraints, policies and rules.
	Writes bool

	// Defines: it may define functions, Defined are the settings that these seem to set.
	Defines bool
	Defined []string

	// Resets are the settings among Names that may have been given back the value
	// that they had at login; ResetsAll stands for all settings.
	Resets    []string
	ResetsAll bool

	// LocalResets are the settings that may have got that value until the end of the
	// transaction.
	LocalResets []string

	// Meaning: what a text means behind the statement, until the end of its
	// transaction at least, may be something else than before. MeaningKey, if it is
	// not empty, tells what.
	Meaning    bool
	MeaningKey string

	// Reading is how texts may be read behind the statement, until the end of its
	// transaction at least.
	Reading ReadingChange

	// Statements are the names of prepared statements that it refers to.
	Statements []string

	// Begins: it may begin a transaction block.
	Begins bool

	// Executes: it runs a statement that was prepared with PREPARE.
	Executes bool

	// Draws: it may call nextval. Asks: it may call currval or lastval. ByName: its
	// text says so.
	Draws, DrawsByName bool
	Asks, AsksByName   bool
}

// Add adds what another statement may do.
func (e *Effects) Add(other *Effects) {
	if other == nil {
		return
	}
	if other.State&StateFunctions != 0 && len(other.Functions) == 0 {
		e.Functions, e.State = nil, e.State|StateFunctions
	}
	for _, name := range other.Functions {
		e.AddFunction(name)
	}
	e.State |= other.State
	e.Defines, e.Defined = e.Defines || other.Defines, append(e.Defined, other.Defined...)
	for _, name := range other.Names {
		e.AddName(name)
	}
	e.BoundNames = append(e.BoundNames, other.BoundNames...)
	for _, argument := range other.Arguments {
		e.AddArgument([]byte(argument))
	}
	e.Resets = append(e.Resets, other.Resets...)
	e.ResetsAll = e.ResetsAll || other.ResetsAll
	e.LocalResets = append(e.LocalResets, other.LocalResets...)
	switch {
	case !other.Meaning:
	case !e.Meaning:
		e.Meaning, e.MeaningKey = true, other.MeaningKey
	case e.MeaningKey != "" && other.MeaningKey != "":
		e.MeaningKey += ";" + other.MeaningKey
	default:
		e.MeaningKey = ""
	}
	e.Statements = append(e.Statements, other.Statements...)
	e.Reading = max(e.Reading, other.Reading)
	e.Writes = e.Writes || other.Writes
	e.Begins, e.Executes = e.Begins || other.Begins, e.Executes || other.Executes
	e.Draws, e.DrawsByName = e.Draws || other.Draws, e.DrawsByName || other.DrawsByName
	e.Asks, e.AsksByName = e.Asks || other.Asks, e.AsksByName || other.AsksByName
}

// AddFunction adds a function of the database that is called.
func (e *Effects) AddFunction(name string) {
	switch {
	case e.State&StateFunctions != 0 && len(e.Functions) == 0, slices.Contains(e.Functions, name):
	case len(e.Functions) == maxFunctions:
		e.Functions = nil
	default:
		e.Functions = append(e.Functions, name)
	}
	e.State |= StateFunctions
}

// maxFunctions is how many functions of a statement are told from all.
const maxFunctions = 8

// AddName adds a setting that may change.
func (e *Effects) AddName(name string) {
	if !slices.Contains(e.Names, name) {
		e.Names = append(e.Names, name)
	}
}

// maxArguments is how many strings are tried.
const maxArguments = 16

// AddArgument adds a string that is handed to a function, if it may be the name of a setting
// of an application.
func (e *Effects) AddArgument(argument []byte) {
	if len(e.Arguments) == maxArguments || len(argument) > maxSettingNameBytes || bytes.IndexByte(argument, '.') < 0 {
		return
	}
	name := strings.ToLower(string(argument))
	if ValidSettingName(name) && !slices.Contains(e.Arguments, name) {
		e.Arguments = append(e.Arguments, name)
	}
}

// maxSettingNameBytes is how long the name of a setting may be that is looked for: they are
// no longer than others, in practice.
const maxSettingNameBytes = 63
