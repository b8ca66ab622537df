package e2e

import "github.com/jackc/pgx/v5/pgproto3"

// The frontend messages of the extended query protocol, as short as scripts need
// them.

func parse(name, sql string) *pgproto3.Parse { return &pgproto3.Parse{Name: name, Query: sql} }

func bind(name string, parameters ...string) *pgproto3.Bind {
	b := &pgproto3.Bind{PreparedStatement: name}
	for _, parameter := range parameters {
		b.Parameters = append(b.Parameters, []byte(parameter))
	}
	return b
}

func describe(name string) *pgproto3.Describe {
	return &pgproto3.Describe{ObjectType: 'S', Name: name}
}

func describePortal() *pgproto3.Describe { return &pgproto3.Describe{ObjectType: 'P'} }

func execute() *pgproto3.Execute { return &pgproto3.Execute{} }

func syncMessage() *pgproto3.Sync { return &pgproto3.Sync{} }
