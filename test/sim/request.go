package sim

import (
	"encoding/binary"
	"strconv"
	"strings"

	"github.com/billproxy/billproxy/pool"
	"github.com/billproxy/billproxy/pool/pgwire"
)

// This file is what a client's requests are made of: texts of statements and
// messages of the extended query protocol, chosen at random.

// randomQuery is the text of a simple query.
func (c *Client) randomQuery() string {
	w := c.world
	switch n := w.random.IntN(40); {
	case n == 0:
		return ""
	case n == 1:
		return "selec " + c.tag().String()
	case n == 2:
		return "  ; ;"
	case n < 6: // several statements
		texts := []string{c.randomSelect(), c.randomUpdate(), c.randomSelect()}
		return strings.Join(texts[:2+w.random.IntN(2)], "; ")
	case n == 6 && w.scenario.Mode == pool.ModeTransaction:
		return "begin; " + c.randomSelect() + "; " + c.randomUpdate() + "; commit"
	case n == 7 && c.setsItself && !c.believes.inTransaction:
		return c.randomSet()
	case n == 8:
		return "show " + []string{"application_name", "geqo", "extra_float_digits"}[w.random.IntN(3)]
	case n == 9 && !c.believes.inTransaction && w.chance(3):
		c.believes.named = map[string]int{}
		return []string{"discard all", "deallocate all"}[w.random.IntN(2)]
	case n < 14:
		return c.randomUpdate()
	}
	return c.randomSelect()
}

// randomHeld makes state of the session, or takes it away.
func (c *Client) randomHeld() string {
	texts := heldTexts[c.world.random.IntN(int(heldCount))]
	text := texts.hold
	if c.world.chance(3) {
		text = texts.release
	}
	return text + " /* tag = '" + c.tag().String() + "' */"
}

func (c *Client) randomSet() string {
	if c.world.chance(4) {
		return []string{"set geqo = off", "set geqo = on", "reset geqo", "set extra_float_digits = 3"}[c.world.random.IntN(4)]
	}
	if c.world.chance(3) {
		return "set DateStyle = '" + []string{"ISO", "SQL", "wrong"}[c.world.random.IntN(3)] + "'"
	}
	return "set application_name = 'own-" + strconv.Itoa(c.world.random.IntN(3)) + "'"
}

// conditions is the random part of a statement, from "variant" on.
func (c *Client) conditions() string {
	w := c.world
	text := " and variant = " + strconv.Itoa(w.random.IntN(5))
	if w.chance(5) {
		text += " and delay = " + strconv.Itoa(1+w.random.IntN(20))
	}
	if w.chance(12) {
		text += " and fail = " + strconv.Itoa(1+w.random.IntN(3))
	}
	if w.chance(12) {
		text += " and notices = " + strconv.Itoa(1+w.random.IntN(2))
	}
	if w.chance(20) {
		text += " and writes = 1"
	}
	if w.scenario.Large && w.chance(6) {
		text += " and note = " + strings.Repeat("x", 1+w.random.IntN(200_000))
	}
	return text
}

// volume is how many rows of what width a statement returns.
func (c *Client) volume() (rows, width int) {
	w := c.world
	if w.scenario.Large && w.chance(3) {
		return w.random.IntN(80), w.random.IntN(12_000)
	}
	return w.random.IntN(5), w.random.IntN(30)
}

func (c *Client) randomSelect() string {
	rows, width := c.volume()
	return "select * from sim where tag = '" + c.tag().String() + "' and rows = " + strconv.Itoa(rows) +
		" and width = " + strconv.Itoa(width) + c.conditions()
}

func (c *Client) randomUpdate() string {
	return "update sim set n = 0 where tag = '" + c.tag().String() + "'" + c.conditions()
}

// parseRandom prepares a statement that other clients may prepare too, and returns
// how many parameters it has.
func (c *Client) parseRandom(g *group, name string) (parameters int) {
	w := c.world
	switch n := w.random.IntN(20); {
	case n == 0:
		c.parse(g, name, "selec "+c.tag().String())
		return -1
	case n == 1:
		c.parse(g, name, "")
		return 0
	case n < 6:
		c.parse(g, name, "update sim set n = 0 where tag = $1 and variant = "+strconv.Itoa(w.random.IntN(3)))
		return 1
	case n < 9 && name == "":
		c.parse(g, name, c.randomSelect()) // its tag is good for one execution
		return -1
	}
	text := "select * from sim where tag = $1 and rows = $2 and variant = " + strconv.Itoa(w.random.IntN(4))
	if w.chance(10) {
		text += " and fail = 2"
	}
	c.parse(g, name, text)
	return 2
}

func (c *Client) parse(g *group, name, text string) {
	if name == "" {
		c.believes.unnamed = 0
	}
	if strings.Contains(text, "tag = 'c") {
		c.repeatable[c.sequence] = true // it may be bound again
	}
	body := append(append([]byte(name), 0), text...)
	c.add(g, pgwire.AppendMessage(nil, pgwire.Parse, append(body, 0, 0, 0)))
}

// bind binds a statement: the first parameter is a new tag, the second a count of
// rows.
func (c *Client) bind(g *group, portal, name string, parameters int) {
	w := c.world
	values := []string{c.tag().String(), strconv.Itoa(w.random.IntN(5))}
	if w.chance(40) {
		parameters++ // one too many
		values = append(values, "x")
	}
	c.bindValues(g, portal, name, values[:max(0, min(parameters, len(values)))])
}

func (c *Client) bindValues(g *group, portal, name string, values []string) {
	body := append(append([]byte(portal), 0), name...)
	body = append(body, 0, 0, 0)
	body = binary.BigEndian.AppendUint16(body, uint16(len(values)))
	for _, v := range values {
		body = binary.BigEndian.AppendUint32(body, uint32(len(v)))
		body = append(body, v...)
	}
	c.add(g, pgwire.AppendMessage(nil, pgwire.Bind, append(body, 0, 0)))
}

func (c *Client) executePortal(g *group, portal string, limit int) {
	body := append([]byte(portal), 0)
	c.add(g, pgwire.AppendMessage(nil, pgwire.Execute, binary.BigEndian.AppendUint32(body, uint32(limit))))
}
