package main

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/caarlos0/env/v11"
)

// variablePrefix begins the name of every variable of ours.
const variablePrefix = "BILLPROXY_"

// databaseURLVariable is read where UPSTREAM_URL is not set.
const databaseURLVariable = "DATABASE_URL"

// config is every parameter of every subcommand. Where PgBouncer has the
// parameter, its name and meaning are PgBouncer's. The tag meaning is the last
// column of `billproxy config`, derived what takes the place of a default that
// depends on other variables.
type config struct {
	UpstreamURL databaseURL `env:"UPSTREAM_URL" derived:"DATABASE_URL" meaning:"the PostgreSQL server behind the proxy"`

	Listen        listenAddress `env:"LISTEN" envDefault:"127.0.0.1:6432" meaning:"where the proxy takes PostgreSQL clients"`
	UnixSocketDir folder        `env:"UNIX_SOCKET_DIR" meaning:"folder for a Unix-domain socket of the proxy; empty makes none"`
	AuthType      authType      `env:"AUTH_TYPE" derived:"scram-sha-256 or trust" meaning:"how clients prove who they are: scram-sha-256, md5, password, cert for the common name of their certificate, or trust for this machine only; by default scram-sha-256 if there is an AUTH_FILE, an AUTH_USER or a password in UPSTREAM_URL"`
	AuthFile      authFile      `env:"AUTH_FILE" meaning:"users and passwords besides those of UPSTREAM_URL, as in PgBouncer's userlist.txt; read again at SIGHUP"`
	AuthUser      name          `env:"AUTH_USER" meaning:"the role that asks PostgreSQL, by AUTH_QUERY, for the stored passwords of users that are in neither; empty asks for none"`
	AuthQuery     query         `env:"AUTH_QUERY" derived:"what pg_authid says" meaning:"returns name and stored password of the user $1, at most one row"`
	AuthDBName    name          `env:"AUTH_DBNAME" derived:"that of UPSTREAM_URL" meaning:"the database in which AUTH_QUERY runs"`

	AdminUsers nameList `env:"ADMIN_USERS" derived:"the user of UPSTREAM_URL, unless AUTH_TYPE is trust" meaning:"users who may run every command of the admin console; a lone comma is nobody"`
	StatsUsers nameList `env:"STATS_USERS" derived:"with AUTH_TYPE trust, the user of UPSTREAM_URL" meaning:"users who may run SHOW in the admin console"`

	ClientTLSSSLMode   sslMode      `env:"CLIENT_TLS_SSLMODE" envDefault:"disable" meaning:"encryption of clients: allow and prefer leave it to them, require refuses the others, verify-ca and verify-full those without a certificate of CLIENT_TLS_CA_FILE"`
	ClientTLSCertFile  pemFile      `env:"CLIENT_TLS_CERT_FILE" meaning:"certificate of the proxy for clients, with those of its issuers; read again at SIGHUP"`
	ClientTLSKeyFile   pemFile      `env:"CLIENT_TLS_KEY_FILE" meaning:"its private key, which nobody else may be able to read"`
	ClientTLSCAFile    pemFile      `env:"CLIENT_TLS_CA_FILE" meaning:"certificates that certificates of clients have to lead to"`
	ClientTLSProtocols tlsProtocols `env:"CLIENT_TLS_PROTOCOLS" envDefault:"secure" meaning:"versions of TLS: tlsv1.2, tlsv1.3, or secure, which is both"`
	ServerTLSSSLMode   sslMode      `env:"SERVER_TLS_SSLMODE" derived:"sslmode of UPSTREAM_URL" meaning:"encryption of servers, with libpq's meanings"`
	ServerTLSCAFile    pemFile      `env:"SERVER_TLS_CA_FILE" derived:"sslrootcert of UPSTREAM_URL" meaning:"certificates that those of servers have to lead to, or the word system; read again at SIGHUP"`
	ServerTLSCertFile  pemFile      `env:"SERVER_TLS_CERT_FILE" derived:"sslcert of UPSTREAM_URL" meaning:"certificate of the proxy for servers"`
	ServerTLSKeyFile   pemFile      `env:"SERVER_TLS_KEY_FILE" derived:"sslkey of UPSTREAM_URL" meaning:"its private key, which nobody else may be able to read"`

	PoolMode              poolMode `env:"POOL_MODE" envDefault:"transaction" meaning:"how long a client keeps a server: transaction, session or statement"`
	DefaultPoolSize       positive `env:"DEFAULT_POOL_SIZE" envDefault:"20" meaning:"most servers for one pair of database and user"`
	MaxDBConnections      count    `env:"MAX_DB_CONNECTIONS" envDefault:"0" meaning:"most servers altogether; 0 is no limit"`
	MaxClientConn         positive `env:"MAX_CLIENT_CONN" envDefault:"10000" meaning:"most client connections"`
	MaxLoginConn          positive `env:"MAX_LOGIN_CONN" derived:"MAX_CLIENT_CONN" meaning:"most of them that have not proved yet who they are; one that keeps the proxy waiting makes room"`
	MaxPreparedStatements positive `env:"MAX_PREPARED_STATEMENTS" envDefault:"200" meaning:"prepared statements kept on one server"`
	SharedReads           onOff    `env:"SHARED_READS" envDefault:"on" meaning:"put fast reads of many clients on few servers, one behind the other"`
	SharedDepth           positive `env:"SHARED_DEPTH" envDefault:"32" meaning:"most reads under way on one such server"`
	CoalesceReads         onOff    `env:"COALESCE_READS" envDefault:"on" meaning:"ask once for clients that wait to read the same"`
	ParameterizedReads    onOff    `env:"PARAMETERIZED_READS" envDefault:"on" meaning:"prepare fast reads of the simple protocol, with their constants as parameters"`

	QueryWaitTimeout duration         `env:"QUERY_WAIT_TIMEOUT" envDefault:"1s" meaning:"longest wait of a client for a server; 0 is forever"`
	QueueTarget      duration         `env:"QUEUE_TARGET" envDefault:"5ms" meaning:"wait to which an overload keeps the queue for servers, and answers the rest at once; 0 has all wait their turn"`
	QueueInterval    positiveDuration `env:"QUEUE_INTERVAL" envDefault:"100ms" meaning:"for how long more has to arrive than is done before that is an overload"`
	MaxWaiters       count            `env:"MAX_WAITERS" envDefault:"10000" meaning:"most clients that wait for a server of one pool; 0 is no limit"`
	RetryBudget      percent          `env:"RETRY_BUDGET" envDefault:"10%" meaning:"retries let through in a storm for one tenant, in percent of its successes, besides two per second; 0 is no limit"`
	ShedSQLState     shedState        `env:"SHED_SQLSTATE" envDefault:"53400" meaning:"SQLSTATE of the answer to who gets no server: 53400, or 57014 for clients that retry the other"`
	TenantFairness   onOff            `env:"TENANT_FAIRNESS" envDefault:"on" meaning:"let tenants, by application_name or a comment /*tenant='…'*/ in the query, take turns for servers"`
	Critical         nameList         `env:"CRITICAL" meaning:"users and tenants whose work goes before that of others, separated by commas"`
	AdaptiveLimit    onOff            `env:"ADAPTIVE_LIMIT" envDefault:"on" meaning:"use fewer servers while more make queries slow, and for a moment after a stall"`
	LoginDelay       onOff            `env:"LOGIN_DELAY" envDefault:"on" meaning:"in a storm, or while hundreds log in at a time, let them in one after the other, after two seconds at most"`

	ServerConnectTimeout   duration `env:"SERVER_CONNECT_TIMEOUT" envDefault:"15s" meaning:"longest connect and login to PostgreSQL"`
	ServerIdleTimeout      duration `env:"SERVER_IDLE_TIMEOUT" envDefault:"10m" meaning:"closes a server unused for so long; 0 is never"`
	ServerLifetime         duration `env:"SERVER_LIFETIME" envDefault:"1h" meaning:"closes an idle server of that age; 0 is never"`
	IdleTransactionTimeout duration `env:"IDLE_TRANSACTION_TIMEOUT" envDefault:"0" meaning:"closes a client idle in a transaction for so long; 0 is never"`
	ClientLoginTimeout     duration `env:"CLIENT_LOGIN_TIMEOUT" envDefault:"60s" meaning:"longest login of a client"`
	ClientStallTimeout     duration `env:"CLIENT_STALL_TIMEOUT" envDefault:"5m" meaning:"closes a client that holds a server and reads nothing for so long; 0 is never"`
	ShutdownTimeout        duration `env:"SHUTDOWN_TIMEOUT" envDefault:"30s" meaning:"longest wait at SIGTERM for transactions to finish"`

	HTTPListen        listenAddress `env:"HTTP_LISTEN" envDefault:"127.0.0.1:8080" meaning:"where the billing API listens"`
	APIDatabaseURL    databaseURL   `env:"API_DATABASE_URL" derived:"the proxy" meaning:"where the billing API finds its database"`
	DirectDatabaseURL databaseURL   `env:"DIRECT_DATABASE_URL" derived:"UPSTREAM_URL" meaning:"PostgreSQL without the proxy, for migrations"`
	APIKeys           keyList       `env:"API_KEYS" meaning:"API keys accepted from the start"`

	AdminListen listenAddress `env:"ADMIN_LISTEN" envDefault:"127.0.0.1:9432" meaning:"where the admin page, /metrics, /healthz, /readyz and /debug/pprof are"`
	LogFormat   logFormat     `env:"LOG_FORMAT" envDefault:"text" meaning:"text or json, on standard error"`
	LogLevel    logLevel      `env:"LOG_LEVEL" envDefault:"info" meaning:"least severe level logged: debug, info, warn or error"`

	PGBin folder `env:"PG_BIN" derived:"searched" meaning:"folder of PostgreSQL's server programs, for dev and tests"`

	// upstreamBorrowed is true if UpstreamURL is that of DATABASE_URL.
	upstreamBorrowed bool
}

// configError is a mistake in the environment. It is for the user, who is told
// nothing else.
type configError struct{ problems []string }

func (e *configError) Error() string { return strings.Join(e.problems, "\n") }

func newConfigError(format string, args ...any) *configError {
	return &configError{[]string{fmt.Sprintf(format, args...)}}
}

// unsetVariable complains of a variable that a subcommand cannot do without.
func unsetVariable(name string, v variable) *configError {
	return newConfigError("%s%s is not set: expected %s", variablePrefix, name, v.expected())
}

// loadConfig reads the environment, a list of "name=value", and reports all
// mistakes at once.
func loadConfig(environ []string) (*config, error) {
	environment := make(map[string]string, len(environ))
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		environment[name] = value
	}
	c := new(config)
	err := env.ParseWithOptions(c, env.Options{Environment: environment, Prefix: variablePrefix})
	problems := parseProblems(c, err, environment)
	problems = append(problems, unknownVariables(c, environment)...)
	if url := environment[databaseURLVariable]; environment[variablePrefix+"UPSTREAM_URL"] == "" && url != "" {
		c.upstreamBorrowed = true
		if err := c.UpstreamURL.UnmarshalText([]byte(url)); err != nil {
			problems = append(problems, badValue(databaseURLVariable, url, &c.UpstreamURL))
		}
	}
	if len(problems) > 0 {
		return nil, &configError{problems}
	}
	return c, nil
}

// parseProblems turns the library's errors into sentences with the variable, the
// value and what was expected.
func parseProblems(c *config, err error, environment map[string]string) []string {
	aggregate, ok := errors.AsType[env.AggregateError](err)
	if !ok {
		if err != nil {
			return []string{err.Error()}
		}
		return nil
	}
	var problems []string
	for _, err := range aggregate.Errors {
		parseErr, ok := errors.AsType[env.ParseError](err)
		if !ok {
			problems = append(problems, err.Error())
			continue
		}
		for _, field := range c.fields() {
			if field.field == parseErr.Name {
				problems = append(problems, badValue(field.name, environment[field.name], field.value))
			}
		}
	}
	return problems
}

// badValue says what is wrong with a value, which is not shown where it may hold
// a secret: what cannot be parsed cannot be masked.
func badValue(name, value string, v variable) string {
	switch v.(type) {
	case *databaseURL, *keyList:
		value = mask
	}
	return fmt.Sprintf("%s is %q: expected %s", name, value, v.expected())
}

// unknownVariables lists variables with our prefix that do not exist. A typing
// mistake must not silently leave a default in force.
func unknownVariables(c *config, environment map[string]string) []string {
	var known []string
	for _, field := range c.fields() {
		known = append(known, strings.TrimPrefix(field.name, variablePrefix))
	}
	var problems []string
	for _, name := range slices.Sorted(maps.Keys(environment)) {
		suffix, ours := strings.CutPrefix(name, variablePrefix)
		if !ours || slices.Contains(known, suffix) {
			continue
		}
		problem := name + " is not a variable of billproxy"
		if near := nearest(suffix, known); near != "" {
			problem += ": did you mean " + variablePrefix + near + "?"
		} else {
			problem += ": `billproxy config` lists them"
		}
		problems = append(problems, problem)
	}
	return problems
}

// field is one variable of config.
type field struct {
	field    string // its name in config
	name     string // its name in the environment
	standard string // its default, or what it is derived from
	meaning  string
	value    variable
}

// fields lists the variables in the order of config.
func (c *config) fields() []field {
	structure := reflect.ValueOf(c).Elem()
	var fields []field
	for i := range structure.NumField() {
		description := structure.Type().Field(i)
		if !description.IsExported() {
			continue
		}
		value, ok := structure.Field(i).Addr().Interface().(variable)
		if !ok {
			panic("BUG: config." + description.Name + " is not a variable")
		}
		standard := description.Tag.Get("envDefault")
		if derived, ok := description.Tag.Lookup("derived"); ok {
			standard = "(" + derived + ")"
		}
		fields = append(fields, field{
			field:    description.Name,
			name:     variablePrefix + description.Tag.Get("env"),
			standard: standard,
			meaning:  description.Tag.Get("meaning"),
			value:    value,
		})
	}
	return fields
}
