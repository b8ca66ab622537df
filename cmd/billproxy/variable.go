package main

import (
	"crypto/tls"
	"encoding"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/billproxy/billproxy/pool"
	"github.com/billproxy/billproxy/pool/pgwire"
	"github.com/billproxy/billproxy/proxy"
)

// variable is the type of a field of config: how its text is read, described and
// shown, secrets masked.
type variable interface {
	encoding.TextUnmarshaler
	fmt.Stringer
	// kind is the entry in the column of units, expected completes "expected …".
	kind() string
	expected() string
}

// mask stands where a secret was.
const mask = "xxxxx"

// duration is PgBouncer's: plain numbers are seconds, fractions allowed.
type duration time.Duration

func (d *duration) UnmarshalText(text []byte) error {
	value, err := time.ParseDuration(string(text))
	if seconds, numberErr := strconv.ParseFloat(string(text), 64); numberErr == nil {
		value, err = time.ParseDuration(strconv.FormatFloat(seconds, 'f', -1, 64) + "s")
	}
	if err == nil && value < 0 {
		err = errors.New("negative duration")
	}
	*d = duration(value)
	return err
}

func (d *duration) String() string {
	text := time.Duration(*d).String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = strings.TrimSuffix(text, zero[1:])
		}
	}
	return text
}

func (d *duration) kind() string     { return "duration" }
func (d *duration) expected() string { return "seconds (120) or a duration with units (90s, 10m, 1h)" }

// positiveDuration is a duration that is not 0.
type positiveDuration duration

func (d *positiveDuration) UnmarshalText(text []byte) error {
	err := (*duration)(d).UnmarshalText(text)
	if err == nil && *d == 0 {
		err = strconv.ErrRange
	}
	return err
}

func (d *positiveDuration) String() string   { return (*duration)(d).String() }
func (d *positiveDuration) kind() string     { return "duration" }
func (d *positiveDuration) expected() string { return (*duration)(d).expected() + ", more than 0" }

// percent is a share, with or without its sign.
type percent float64

func (p *percent) UnmarshalText(text []byte) error {
	value, err := strconv.ParseFloat(strings.TrimSuffix(string(text), "%"), 64)
	if err == nil && !(value >= 0 && value <= 100) {
		err = strconv.ErrRange
	}
	*p = percent(value)
	return err
}

func (p *percent) String() string   { return strconv.FormatFloat(float64(*p), 'f', -1, 64) + "%" }
func (p *percent) kind() string     { return "percent" }
func (p *percent) expected() string { return "a number from 0 to 100, such as 10%" }

// shedState is the SQLSTATE of the answer to who gets no server. Drivers take most
// others for the loss of the connection, or for an invitation to try again at once.
type shedState pgwire.SQLState

func (s *shedState) UnmarshalText(text []byte) error {
	*s = shedState(text)
	if s.code() != pgwire.ConfigurationLimitExceeded && s.code() != pgwire.QueryCanceled {
		return strconv.ErrSyntax
	}
	return nil
}

func (s *shedState) code() pgwire.SQLState { return pgwire.SQLState(*s) }
func (s *shedState) String() string        { return string(*s) }
func (s *shedState) kind() string          { return "sqlstate" }
func (s *shedState) expected() string      { return "53400 or 57014" }

// count is a whole number from 0.
type count int

func (c *count) UnmarshalText(text []byte) error {
	value, err := strconv.ParseUint(string(text), 10, 31)
	*c = count(value)
	return err
}

func (c *count) String() string   { return strconv.Itoa(int(*c)) }
func (c *count) kind() string     { return "number" }
func (c *count) expected() string { return "a whole number from 0" }

// positive is a whole number from 1.
type positive int

func (p *positive) UnmarshalText(text []byte) error {
	value, err := strconv.ParseUint(string(text), 10, 31)
	if err == nil && value == 0 {
		err = strconv.ErrRange
	}
	*p = positive(value)
	return err
}

func (p *positive) String() string {
	if *p == 0 {
		return "" // it depends on other variables
	}
	return strconv.Itoa(int(*p))
}
func (p *positive) kind() string     { return "number" }
func (p *positive) expected() string { return "a whole number from 1" }

// listenAddress is where to listen, "host:port". Port 0 takes a free one.
type listenAddress string

func (a *listenAddress) UnmarshalText(text []byte) error {
	_, port, err := net.SplitHostPort(string(text))
	if err != nil {
		return err
	}
	*a = listenAddress(text)
	_, err = strconv.ParseUint(port, 10, 16)
	return err
}

func (a *listenAddress) String() string   { return string(*a) }
func (a *listenAddress) kind() string     { return "host:port" }
func (a *listenAddress) expected() string { return "host:port, such as 127.0.0.1:6432" }

// folder is the path of a directory.
type folder string

func (f *folder) UnmarshalText(text []byte) error { *f = folder(text); return nil }
func (f *folder) String() string                  { return string(*f) }
func (f *folder) kind() string                    { return "folder" }
func (f *folder) expected() string                { return "the path of a folder" }

// databaseURL is a connection URL or string as libpq takes it.
type databaseURL string

func (u *databaseURL) UnmarshalText(text []byte) error {
	// Files that cannot be read are complained of when they are needed.
	if _, err := pgconn.ParseConfig(string(text)); err != nil && fileProblem(err) == nil {
		return err
	}
	*u = databaseURL(text)
	return nil
}

var (
	passwordSetting   = regexp.MustCompile(`(?i)(password\s*=\s*)('(?:[^'\\]|\\.)*'|\S+)`)
	passwordParameter = regexp.MustCompile(`(?i)(password=)[^&]*`)
)

func (u *databaseURL) String() string {
	text := string(*u)
	if !strings.Contains(text, "://") {
		return passwordSetting.ReplaceAllString(text, "${1}"+mask)
	}
	parsed, err := url.Parse(text)
	if err != nil {
		return mask
	}
	parsed.RawQuery = passwordParameter.ReplaceAllString(parsed.RawQuery, "${1}"+mask)
	return parsed.Redacted()
}

func (u *databaseURL) kind() string { return "url" }
func (u *databaseURL) expected() string {
	return "a connection URL, such as postgres://user:password@host:5432/database"
}

// keyList is a comma list of API keys.
type keyList []string

func (l *keyList) UnmarshalText(text []byte) error {
	for key := range strings.SplitSeq(string(text), ",") {
		key = strings.TrimSpace(key)
		if key == "" {
			return errors.New("empty key")
		}
		*l = append(*l, key)
	}
	return nil
}

func (l *keyList) String() string {
	return strings.TrimSuffix(strings.Repeat(mask+",", len(*l)), ",")
}

func (l *keyList) kind() string     { return "list" }
func (l *keyList) expected() string { return "API keys, separated by commas" }

// poolMode is pool.Mode.
type poolMode pool.Mode

func (m *poolMode) UnmarshalText(text []byte) error { return (*pool.Mode)(m).UnmarshalText(text) }
func (m *poolMode) String() string                  { return pool.Mode(*m).String() }
func (m *poolMode) kind() string                    { return "word" }
func (m *poolMode) expected() string                { return "transaction, session or statement" }

// onOff switches something, with PostgreSQL's words for a boolean.
type onOff bool

func (o *onOff) UnmarshalText(text []byte) error {
	switch strings.ToLower(string(text)) {
	case "on", "true", "yes", "1":
		*o = true
	case "off", "false", "no", "0":
		*o = false
	default:
		return strconv.ErrSyntax
	}
	return nil
}

func (o *onOff) String() string {
	if *o {
		return "on"
	}
	return "off"
}
func (o *onOff) kind() string     { return "word" }
func (o *onOff) expected() string { return "on or off" }

// authType is PgBouncer's auth_type: how clients prove who they are.
type authType struct {
	set   bool // else it depends on other variables
	value proxy.AuthType
}

func (a *authType) UnmarshalText(text []byte) error {
	a.set = true
	return a.value.UnmarshalText(text)
}

func (a *authType) String() string {
	if !a.set {
		return ""
	}
	return a.value.String()
}
func (a *authType) kind() string     { return "word" }
func (a *authType) expected() string { return "trust, password, md5, scram-sha-256 or cert" }

// sslMode is libpq's sslmode.
type sslMode struct {
	set   bool // else it depends on other variables
	value pool.SSLMode
}

func (m *sslMode) UnmarshalText(text []byte) error {
	m.set = true
	return m.value.UnmarshalText(text)
}

func (m *sslMode) String() string {
	if !m.set {
		return ""
	}
	return m.value.String()
}
func (m *sslMode) kind() string     { return "word" }
func (m *sslMode) expected() string { return pool.SSLModeWords }

// tlsProtocols is PgBouncer's list of versions of TLS, as far as they are secure.
type tlsProtocols struct{ min, max uint16 }

func (p *tlsProtocols) UnmarshalText(text []byte) error {
	for word := range strings.SplitSeq(strings.ToLower(string(text)), ",") {
		var least, most uint16
		switch strings.TrimSpace(word) {
		case "tlsv1.2":
			least, most = tls.VersionTLS12, tls.VersionTLS12
		case "tlsv1.3":
			least, most = tls.VersionTLS13, tls.VersionTLS13
		case "secure":
			least, most = tls.VersionTLS12, tls.VersionTLS13
		default:
			return strconv.ErrSyntax
		}
		if p.min == 0 || least < p.min {
			p.min = least
		}
		p.max = max(p.max, most)
	}
	return nil
}

func (p *tlsProtocols) String() string {
	switch {
	case p.min != p.max:
		return "secure"
	case p.min == tls.VersionTLS12:
		return "tlsv1.2"
	default:
		return "tlsv1.3"
	}
}
func (p *tlsProtocols) kind() string     { return "list" }
func (p *tlsProtocols) expected() string { return "tlsv1.2, tlsv1.3, or secure, which is both" }

// pemFile is the path of a file with certificates or a key.
type pemFile string

func (f *pemFile) UnmarshalText(text []byte) error { *f = pemFile(text); return nil }
func (f *pemFile) String() string                  { return string(*f) }
func (f *pemFile) kind() string                    { return "file" }
func (f *pemFile) expected() string                { return "the path of a file in PEM" }

// authFile is the path of PgBouncer's auth_file.
type authFile string

func (f *authFile) UnmarshalText(text []byte) error { *f = authFile(text); return nil }
func (f *authFile) String() string                  { return string(*f) }
func (f *authFile) kind() string                    { return "file" }
func (f *authFile) expected() string {
	return `a file of lines "user" "password", as PgBouncer's userlist.txt`
}

// name is that of a role or a database.
type name string

func (n *name) UnmarshalText(text []byte) error { *n = name(text); return nil }
func (n *name) String() string                  { return string(*n) }
func (n *name) kind() string                    { return "name" }
func (n *name) expected() string                { return "the name of a role or a database" }

// nameList is a comma list of names.
type nameList []string

func (l *nameList) UnmarshalText(text []byte) error {
	*l = nameList{}
	for name := range strings.SplitSeq(string(text), ",") {
		if name = strings.TrimSpace(name); name != "" {
			*l = append(*l, name)
		}
	}
	return nil
}

func (l *nameList) String() string   { return strings.Join(*l, ",") }
func (l *nameList) kind() string     { return "list" }
func (l *nameList) expected() string { return "names of roles, separated by commas" }

// query is an SQL statement.
type query string

func (q *query) UnmarshalText(text []byte) error { *q = query(text); return nil }
func (q *query) String() string                  { return string(*q) }
func (q *query) kind() string                    { return "sql" }
func (q *query) expected() string                { return "an SQL query with the parameter $1" }

// logFormat is how log lines are written.
type logFormat string

const (
	logText logFormat = "text"
	logJSON logFormat = "json"
)

func (f *logFormat) UnmarshalText(text []byte) error {
	*f = logFormat(strings.ToLower(string(text)))
	if *f != logText && *f != logJSON {
		return errors.New("unknown format")
	}
	return nil
}

func (f *logFormat) String() string   { return string(*f) }
func (f *logFormat) kind() string     { return "word" }
func (f *logFormat) expected() string { return "text or json" }

// logLevel is the least severe level that is logged.
type logLevel slog.Level

func (l *logLevel) UnmarshalText(text []byte) error {
	switch word := strings.ToLower(string(text)); word {
	case "debug", "info", "warn", "error":
		return (*slog.Level)(l).UnmarshalText(text)
	default:
		return errors.New("unknown level")
	}
}

func (l *logLevel) String() string   { return strings.ToLower(slog.Level(*l).String()) }
func (l *logLevel) kind() string     { return "word" }
func (l *logLevel) expected() string { return "debug, info, warn or error" }
