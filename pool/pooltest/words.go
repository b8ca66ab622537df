package pooltest

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/billproxy/billproxy/pool/pgwire"
)

// A message is written as a word: its type and its fields, with bars between.
//
//	frontend                         backend
//	Q|text                           R          AuthenticationOk, R|5 asks for md5
//	P|name|text                      K|pid|key  S|name|value  Z|I
//	B|portal|name[|parameter]        1 2 3 n t I s
//	DS|name DP|name CS|name CP|name  T|column|…  D|value|…  C|tag
//	E|portal S H X c                 E|severity|sqlstate|message  N|message
//	d|data f|reason F|bytes          A|channel  G H W c  d|data  V|bytes
//
// A field too long to read is written "*n": n bytes of the letter x. A value "~" is null.

// Frontend returns the messages that the words stand for.
func Frontend(words ...string) []byte {
	var b []byte
	for _, word := range words {
		b = appendFrontend(b, strings.Split(word, "|"))
	}
	return b
}

func appendFrontend(b []byte, f []string) []byte {
	switch f[0] {
	case "Q":
		return pgwire.AppendQuery(b, field(f, 1))
	case "P":
		return message(b, pgwire.Parse, field(f, 1)+"\x00"+field(f, 2)+"\x00\x00\x00")
	case "B":
		body := field(f, 1) + "\x00" + field(f, 2) + "\x00\x00\x00"
		if len(f) > 3 {
			value := field(f, 3)
			body += "\x00\x01" + string(binary.BigEndian.AppendUint32(nil, uint32(len(value)))) + value
		} else {
			body += "\x00\x00"
		}
		return message(b, pgwire.Bind, body+"\x00\x00")
	case "DS", "DP", "CS", "CP":
		return message(b, f[0][0], f[0][1:]+field(f, 1)+"\x00")
	case "E":
		return message(b, pgwire.Execute, field(f, 1)+"\x00\x00\x00\x00\x00")
	case "S", "H", "X", "c":
		return pgwire.AppendEmpty(b, f[0][0])
	case "d", "F":
		return message(b, f[0][0], field(f, 1))
	case "f":
		return pgwire.AppendCopyFail(b, field(f, 1))
	}
	panic(fmt.Sprintf("BUG: unknown frontend message %q", f))
}

// Backend returns the messages that the words stand for.
func Backend(words ...string) []byte {
	var b []byte
	for _, word := range words {
		b = appendBackend(b, strings.Split(word, "|"))
	}
	return b
}

func appendBackend(b []byte, f []string) []byte {
	switch f[0] {
	case "R":
		method, _ := strconv.Atoi(field(f, 1))
		return message(b, pgwire.Authentication, string(binary.BigEndian.AppendUint32(nil, uint32(method))))
	case "K":
		pid, _ := strconv.Atoi(field(f, 1))
		return pgwire.AppendBackendKeyData(b, uint32(pid), []byte(field(f, 2)))
	case "S":
		return pgwire.AppendParameterStatus(b, field(f, 1), field(f, 2))
	case "Z":
		return pgwire.AppendReadyForQuery(b, pgwire.TxStatus(field(f, 1)[0]))
	case "1", "2", "3", "n", "I", "s", "c":
		return pgwire.AppendEmpty(b, f[0][0])
	case "t":
		return message(b, pgwire.ParameterDescription, "\x00\x00")
	case "T":
		body := binary.BigEndian.AppendUint16(nil, uint16(len(f)-1))
		for i := range f[1:] {
			body = append(append(body, field(f, i+1)...), make([]byte, 19)...)
		}
		return pgwire.AppendMessage(b, pgwire.RowDescription, body)
	case "D":
		body := binary.BigEndian.AppendUint16(nil, uint16(len(f)-1))
		for i := range f[1:] {
			value := field(f, i+1)
			if value == "~" {
				body = binary.BigEndian.AppendUint32(body, 0xffff_ffff)
				continue
			}
			body = append(binary.BigEndian.AppendUint32(body, uint32(len(value))), value...)
		}
		return pgwire.AppendMessage(b, pgwire.DataRow, body)
	case "C":
		return message(b, pgwire.CommandComplete, field(f, 1)+"\x00")
	case "E":
		return message(b, pgwire.ErrorResponse, "S"+field(f, 1)+"\x00V"+field(f, 1)+"\x00C"+field(f, 2)+"\x00M"+field(f, 3)+"\x00\x00")
	case "N":
		return message(b, pgwire.NoticeResponse, "SNOTICE\x00VNOTICE\x00C00000\x00M"+field(f, 1)+"\x00\x00")
	case "A":
		return message(b, pgwire.NotificationResponse, "\x00\x00\x00\x01"+field(f, 1)+"\x00\x00")
	case "G", "H", "W":
		return message(b, f[0][0], "\x00\x00\x00")
	case "d", "V":
		return message(b, f[0][0], field(f, 1))
	case "v":
		return pgwire.AppendNegotiateProtocolVersion(b, pgwire.Version30, nil)
	}
	panic(fmt.Sprintf("BUG: unknown backend message %q", f))
}

func message(b []byte, messageType byte, body string) []byte {
	return pgwire.AppendMessage(b, messageType, []byte(body))
}

func field(f []string, i int) string {
	if i >= len(f) {
		return ""
	}
	if n, err := strconv.Atoi(strings.TrimPrefix(f[i], "*")); err == nil && strings.HasPrefix(f[i], "*") {
		return strings.Repeat("x", n)
	}
	return f[i]
}

// FrontendWords returns the words of frontend messages; the last is "+n" if n bytes
// of a message remain.
func FrontendWords(b []byte) []string { return words(b, frontendWord) }

// BackendWords returns the words of backend messages; the last is "+n" if n bytes of
// a message remain.
func BackendWords(b []byte) []string { return words(b, backendWord) }

func words(b []byte, word func(messageType byte, body string) string) []string {
	var list []string
	for len(b) > 0 {
		if len(b) < pgwire.HeaderBytes || len(b) < 1+int(binary.BigEndian.Uint32(b[1:])) {
			return append(list, fmt.Sprintf("+%d", len(b)))
		}
		size := 1 + int(binary.BigEndian.Uint32(b[1:]))
		list = append(list, word(b[0], string(b[pgwire.HeaderBytes:size])))
		b = b[size:]
	}
	return list
}

func frontendWord(messageType byte, body string) string {
	t := string(rune(messageType))
	f := strings.Split(body, "\x00")
	switch messageType {
	case pgwire.Query, pgwire.CopyFail:
		return t + "|" + short(f[0])
	case pgwire.Parse:
		return t + "|" + f[0] + "|" + short(f[1])
	case pgwire.Bind:
		word := t + "|" + f[0] + "|" + f[1]
		rest := body[len(f[0])+len(f[1])+2:]
		if len(rest) > 8 {
			word += "|" + short(rest[8:len(rest)-2])
		}
		return word
	case pgwire.Describe, pgwire.Close:
		return t + body[:1] + "|" + f[0][1:]
	case pgwire.Execute:
		return t + "|" + f[0]
	case pgwire.CopyData, pgwire.FunctionCall:
		return t + "|" + short(body)
	}
	return t
}

func backendWord(messageType byte, body string) string {
	t := string(rune(messageType))
	f := strings.Split(body, "\x00")
	switch messageType {
	case pgwire.Authentication:
		if method := binary.BigEndian.Uint32([]byte(body)); method != 0 {
			return fmt.Sprintf("R|%d", method)
		}
		return t
	case pgwire.BackendKeyData:
		return fmt.Sprintf("K|%d|%d", binary.BigEndian.Uint32([]byte(body)), len(body)-4)
	case pgwire.ParameterStatus:
		return t + "|" + f[0] + "|" + f[1]
	case pgwire.ReadyForQuery:
		return t + "|" + body
	case pgwire.RowDescription:
		for rest := body[2:]; rest != ""; {
			name, after, _ := strings.Cut(rest, "\x00")
			t, rest = t+"|"+short(name), after[18:]
		}
		return t
	case pgwire.DataRow:
		for rest := body[2:]; rest != ""; {
			length := int(int32(binary.BigEndian.Uint32([]byte(rest))))
			value := "~"
			if rest = rest[4:]; length >= 0 {
				value, rest = short(rest[:length]), rest[length:]
			}
			t += "|" + value
		}
		return t
	case pgwire.CommandComplete:
		return t + "|" + f[0]
	case pgwire.ErrorResponse:
		e := pgwire.ParseError([]byte(body))
		return t + "|" + string(e.Severity) + "|" + string(e.SQLState) + "|" + short(e.Message)
	case pgwire.NoticeResponse:
		return t + "|" + short(pgwire.ParseError([]byte(body)).Message)
	case pgwire.NotificationResponse:
		return t + "|" + strings.SplitN(body[4:], "\x00", 2)[0]
	case pgwire.CopyData, pgwire.FunctionCallResponse:
		return t + "|" + short(body)
	case pgwire.NegotiateProtocolVersion:
		return fmt.Sprintf("%s|%s|%s", t, pgwire.ProtocolVersion(binary.BigEndian.Uint32([]byte(body))), strings.Trim(body[8:], "\x00"))
	}
	return t
}

// short undoes "*n".
func short(s string) string {
	if len(s) > 100 && strings.Trim(s, "x") == "" {
		return fmt.Sprintf("*%d", len(s))
	}
	return s
}
