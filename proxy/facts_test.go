package proxy

import "testing"

func TestWhatADescribeSays(t *testing.T) {
	for _, test := range []struct {
		nothing bool // it says that the statement has no parameters and returns nothing
		texts   []string
	}{
		{true, []string{
			"", " -- empty", "begin", "commit", "set DateStyle = 'German'", "reset all", "discard all", "listen x", "move all from c",
			"insert into item values (1)", "INSERT INTO item SELECT 1", "update item set id = 2", "delete from item where id in (select 1)",
			"with c as (select 1) delete from item", "with c as (update item set id = 1 returning id), d as (select 2) insert into item select * from c",
			"create table t as select 1 as id", "create table t (id int)", "do $$ select $1 $$", "declare c cursor for select 1", "prepare p as select 1",
			"copy (select 1) to stdout", "lock item; ", "deallocate p",
		}},
		{false, []string{
			"select 1", "(select 1)", "((table item))", "values (1)", "table item", "show all", "fetch c", "execute p", "explain analyze delete from item",
			"call p()", "insert into item values (1) returning id", "with c as (select 1) select * from c", "with insert as (select 1) select * from insert",
			"with c as (insert into item values (1) returning id) table c", "with c (insert) as (select 1) update item set id = 1 returning *",
			"insert into item values ($1)", "update item set id = 1 where id = $2", "prepare p as select $1", "delete from item where name = 'open",
			"with", "/* open",
		}},
	} {
		for _, text := range test.texts {
			if got := !hasParameters(text+"\x00\x00\x00", true) && returnsNothing([]byte(text), true); got != test.nothing {
				t.Errorf("%q: got %t, want %t", text, got, test.nothing)
			}
		}
	}
	if !hasParameters("set x = 1\x00\x00\x01\x00\x00\x00\x17", true) {
		t.Error("a parameter that is declared is missing")
	}
}
