package e2e

import (
	"bufio"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// maxProxyBytes is what the proxy's memory must stay under, however much passes
// through it.
const maxProxyBytes = 64 << 20

func (p *process) checkMemory(t testing.TB) {
	t.Helper()
	if most := p.peakMemoryBytes(t); most > maxProxyBytes {
		t.Errorf("the proxy has used %d MB, want at most %d", most>>20, maxProxyBytes>>20)
	}
}

// A hundred megabytes of rows, each with a body that tells rows apart.
const (
	volumeRows   = 100_000
	volumeSelect = "select i, repeat(md5(i::text), 32) from generate_series(1, 100000) as i"
)

func volumeBody(i int) string {
	sum := md5.Sum([]byte(fmt.Sprint(i)))
	return strings.Repeat(hex.EncodeToString(sum[:]), 32)
}

// writeVolume writes the rows in COPY's text format.
func writeVolume(w io.Writer) error {
	buffered := bufio.NewWriter(w)
	for i := 1; i <= volumeRows; i++ {
		if _, err := fmt.Fprintf(buffered, "%d\t%s\n", i, volumeBody(i)); err != nil {
			return err
		}
	}
	return buffered.Flush()
}

// TestVolume passes 100 MB through the proxy in each way there is.
func TestVolume(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.execAsRole(t, "create unlogged table volume (id int, body text)")
	p := startProxyBinary(t, shared.plainBinary, "proxy", shared.cluster, settings{"DEFAULT_POOL_SIZE": "2"})
	conn := p.connect(t, d, "default_query_exec_mode", "exec")
	pg := conn.PgConn()

	for _, protocol := range []string{"simple", "extended"} {
		t.Run("many rows "+protocol, func(t *testing.T) {
			var reader *pgconn.ResultReader
			if protocol == "extended" {
				reader = pg.ExecParams(patient(t), volumeSelect, nil, nil, nil, nil)
			} else {
				results := pg.Exec(patient(t), volumeSelect)
				defer results.Close()
				if !results.NextResult() {
					t.Fatal(results.Close())
				}
				reader = results.ResultReader()
			}
			count := 0
			for reader.NextRow() {
				count++
				if row := reader.Values(); string(row[0]) != fmt.Sprint(count) || string(row[1]) != volumeBody(count) {
					t.Fatalf("row %d is %s, %s", count, row[0], row[1])
				}
			}
			if _, err := reader.Close(); err != nil || count != volumeRows {
				t.Errorf("%d rows, %v", count, err)
			}
			p.checkMemory(t)
		})
	}
	t.Run("copy out", func(t *testing.T) {
		want, got := sha256.New(), sha256.New()
		if err := writeVolume(want); err != nil {
			t.Fatal(err)
		}
		if _, err := pg.CopyTo(patient(t), got, "copy ("+volumeSelect+") to stdout"); err != nil {
			t.Fatal(err)
		}
		if string(got.Sum(nil)) != string(want.Sum(nil)) {
			t.Error("the content differs")
		}
		p.checkMemory(t)
	})
	t.Run("copy in", func(t *testing.T) {
		reader, writer := io.Pipe()
		go func() { writer.CloseWithError(writeVolume(writer)) }()
		if _, err := pg.CopyFrom(patient(t), reader, "copy volume from stdin"); err != nil {
			t.Fatal(err)
		}
		right := value[int](t, d, "select count(*) from volume where body = repeat(md5(id::text), 32) and id between 1 and 100000")
		distinct := value[int](t, d, "select count(distinct id) from volume")
		if right != volumeRows || distinct != volumeRows {
			t.Errorf("%d right rows, %d distinct ones; want %d", right, distinct, volumeRows)
		}
		p.checkMemory(t)
	})

	const longBytes = 50 << 20
	long := strings.Repeat("0123456789abcdef", longBytes/16)
	t.Run("one row", func(t *testing.T) {
		var got string
		err := conn.QueryRow(patient(t), "select repeat('0123456789abcdef', $1::int)", longBytes/16).Scan(&got)
		if err != nil || got != long {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		p.checkMemory(t)
	})
	t.Run("one row of copy out", func(t *testing.T) {
		want, got := sha256.Sum256([]byte(long+"\n")), sha256.New()
		if _, err := pg.CopyTo(patient(t), got, fmt.Sprintf("copy (select repeat('0123456789abcdef', %d)) to stdout", longBytes/16)); err != nil {
			t.Fatal(err)
		}
		if string(got.Sum(nil)) != string(want[:]) {
			t.Error("the content differs")
		}
		p.checkMemory(t)
	})
	digest := value[string](t, d, fmt.Sprintf("select md5(repeat('0123456789abcdef', %d))", longBytes/16))
	t.Run("one parameter", func(t *testing.T) {
		var got string
		if err := conn.QueryRow(patient(t), "select md5($1::text)", long).Scan(&got); err != nil || got != digest {
			t.Errorf("%q, %v; want %q", got, err, digest)
		}
		p.checkMemory(t)
	})
	t.Run("one query", func(t *testing.T) {
		results, err := pg.Exec(patient(t), "select md5('"+long+"')").ReadAll()
		if err != nil || len(results) != 1 || string(results[0].Rows[0][0]) != digest {
			t.Errorf("%v", err)
		}
		p.checkMemory(t)
	})
	t.Run("one query to parse", func(t *testing.T) {
		result := pg.ExecParams(patient(t), "select md5('"+long+"')", nil, nil, nil, nil).Read()
		if result.Err != nil || len(result.Rows) != 1 || string(result.Rows[0][0]) != digest {
			t.Errorf("%v", result.Err)
		}
		p.checkMemory(t)
	})
	t.Run("one row of copy in", func(t *testing.T) {
		d.exec(t, "truncate volume")
		if _, err := pg.CopyFrom(patient(t), strings.NewReader("1\t"+long+"\n"), "copy volume from stdin"); err != nil {
			t.Fatal(err)
		}
		if got := value[string](t, d, "select md5(body) from volume"); got != digest {
			t.Errorf("%q, want %q", got, digest)
		}
		p.checkMemory(t)
	})
	t.Logf("the proxy has used up to %d MB", p.peakMemoryBytes(t)>>20)
}
