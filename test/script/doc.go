// Package script plays text scripts of frontend messages on two databases alike, one
// reached directly and one through the proxy, and compares what the clients are
// told. PostgreSQL is the only expectation.
//
//	# What the proxy is run with, and what both databases have at first:
//	proxy DEFAULT_POOL_SIZE=1
//	setup
//	  create table item (id int primary key);
//
//	# Client a logs in with its first line.
//	a Parse s select $1::int
//	  Bind s 1
//	  Execute
//	  Sync
//	b Query begin
//	b Query copy item from stdin
//	  until CopyInResponse
//	b CopyData "1\n"
//	  CopyDone
//	b disconnect
//
// A step is a line that begins with the name of a client, and the indented lines
// below it: its messages are sent in one write. Then the client reads as many
// ReadyForQuery as it is owed, or, if the step ends with a line "until", up to the
// message named there, or to the end of the connection (close), or not at all
// (nothing). What it reads is compared before the next step begins: message by
// message, but for parameters, of which the values at ReadyForQuery are compared, and
// notifications, which are compared when the client is idle.
//
//	Query SQL                    Sync, Flush, Terminate
//	Parse NAME [types=OID,…] SQL Describe statement|portal NAME
//	Bind NAME [VALUE…] [portal=NAME] [formats=N,…] [results=N,…]
//	Execute [PORTAL] [ROWS]      Close statement|portal NAME
//	FunctionCall OID [VALUE…]    CopyData TEXT, CopyDone, CopyFail TEXT
//	Raw TYPE BYTES               a message that need not be valid
//
// A word may be a Go string in double quotes, and so may a text, such as SQL, which
// is the rest of the line otherwise; the value null is NULL. {{x*70000}} stands for
// 70,000 times x.
//
//	login [version=3.2] [NAME=VALUE…]  connects, with these parameters
//	cancel                             cancels what the client has under way
//	disconnect, vanish                 leaves with Terminate, or with a reset
//	await SQL                          waits until a superuser gets true; of no client
//	servers N                          leaves out steps that wait for one of N servers
//	ignore MESSAGE REASON              messages of that type are not compared
//	ignore where REASON                nor is where an error says that it happened
package script
