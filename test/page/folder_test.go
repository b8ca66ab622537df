package page

import "testing"

func TestInsert(t *testing.T) {
	t.Parallel()
	f := Folder{Maker: "make test"}
	begin, end := f.beginMark(), f.endMark()
	page := "# Title\n\n" + begin + "\nold\n" + end + "\n\nmore\n"
	got, err := f.insert(page, "new\n")
	if want := "# Title\n\n" + begin + "\nnew\n" + end + "\n\nmore\n"; err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	if again, err := f.insert(got, "new\n"); err != nil || again != got {
		t.Errorf("a second time: %q, %v", again, err)
	}
	if got, err := f.insert("", "new\n"); err != nil || got != begin+"\nnew\n"+end+"\n" {
		t.Errorf("into an empty page: %q, %v", got, err)
	}
	for _, page := range []string{"# Title\n", begin, end + begin} {
		if _, err := f.insert(page, ""); err == nil {
			t.Errorf("%q: no error", page)
		}
	}
}
