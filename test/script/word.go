package script

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// words takes a line apart, from left to right.
type words struct {
	rest string
	err  error // the first
}

func (l *words) more() bool {
	l.rest = strings.TrimLeft(l.rest, " ")
	return l.rest != "" && l.err == nil
}

// word is the next word, empty at the end of the line.
func (l *words) word() string {
	word, _ := l.next()
	return word
}

func (l *words) next() (word string, quoted bool) {
	if !l.more() {
		return "", false
	}
	if l.rest[0] != '"' {
		word, l.rest, _ = strings.Cut(l.rest, " ")
		return word, false
	}
	prefix, err := strconv.QuotedPrefix(l.rest)
	if err == nil {
		l.rest = l.rest[len(prefix):]
		word, err = strconv.Unquote(prefix)
	}
	l.fail(err, "%s is no string in double quotes", l.rest)
	return word, true
}

// text is the rest of the line.
func (l *words) text() string {
	rest := strings.Trim(l.rest, " ")
	l.rest = ""
	if !strings.HasPrefix(rest, `"`) {
		return rest
	}
	text, err := strconv.Unquote(rest)
	l.fail(err, "%s is no string in double quotes", rest)
	return text
}

// option takes the next word if it is name=value.
func (l *words) option(name string) (value string, ok bool) {
	if !l.more() || !strings.HasPrefix(l.rest, name+"=") {
		return "", false
	}
	l.rest = l.rest[len(name)+1:]
	if strings.HasPrefix(l.rest, " ") {
		return "", true
	}
	return l.word(), true
}

// value is the next word as the value of a parameter.
func (l *words) value() []byte {
	word, quoted := l.next()
	if word == "null" && !quoted {
		return nil
	}
	return []byte(word)
}

// kind is what Describe and Close are about.
func (l *words) kind() byte {
	word := l.word()
	switch word {
	case "statement":
		return 'S'
	case "portal":
		return 'P'
	}
	l.fail(fmt.Errorf("expected statement or portal"), "%q", word)
	return 0
}

func kindName(kind byte) string {
	if kind == 'S' {
		return "statement"
	}
	return "portal"
}

func (l *words) end() error {
	if l.more() {
		l.fail(fmt.Errorf("expected the end of the line"), "%q", l.rest)
	}
	return l.err
}

func (l *words) fail(err error, format string, args ...any) {
	if err != nil && l.err == nil {
		l.err = fmt.Errorf(format+": %w", append(args, err)...)
	}
}

type integer interface{ ~int16 | ~uint32 | ~int }

func number[T integer](l *words, word string) T {
	n, err := strconv.ParseInt(word, 10, 64)
	l.fail(err, "%q is no number", word)
	return T(n)
}

func numbers[T integer](l *words, list string) []T {
	var numbers []T
	for word := range strings.SplitSeq(list, ",") {
		numbers = append(numbers, number[T](l, word))
	}
	return numbers
}

func list[T integer](numbers []T) string {
	var words []string
	for _, n := range numbers {
		words = append(words, fmt.Sprint(n))
	}
	return strings.Join(words, ",")
}

// line joins what is not empty.
func line(parts ...string) string {
	var present []string
	for _, part := range parts {
		if part != "" {
			present = append(present, part)
		}
	}
	return strings.Join(present, " ")
}

// plain matches what can be written without quotes.
var plain = regexp.MustCompile(`^[\pL\pN_$.:*/+-]+$`)

// word is the inverse of words.word.
func word(s string) string {
	if plain.MatchString(s) {
		return s
	}
	return strconv.Quote(s)
}

// text is the inverse of words.text.
func text(s string) string {
	quoted := strconv.Quote(s)
	if s != "" && s == strings.Trim(s, " ") && s[0] != '"' && quoted[1:len(quoted)-1] == strings.ReplaceAll(strings.ReplaceAll(s, `\`, `\\`), `"`, `\"`) {
		return s
	}
	return quoted
}

// values is the inverse of words.value.
func values(list [][]byte) string {
	var words []string
	for _, value := range list {
		switch {
		case value == nil:
			words = append(words, "null")
		case string(value) == "null":
			words = append(words, `"null"`)
		default:
			words = append(words, word(string(value)))
		}
	}
	return strings.Join(words, " ")
}

// repetition is {{x*70000}}.
var repetition = regexp.MustCompile(`\{\{(.+?)\*(\d+)\}\}`)

func expand(line string) string {
	return repetition.ReplaceAllStringFunc(line, func(macro string) string {
		parts := repetition.FindStringSubmatch(macro)
		count, err := strconv.Atoi(parts[2])
		if err != nil {
			return macro
		}
		return strings.Repeat(parts[1], count)
	})
}
