package page

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const (
	// readmeFile is the page; what stands between the marks is written by a benchmark,
	// the rest by people.
	readmeFile = "README.md"
	// resultsFile keeps every single measurement beside the page.
	resultsFile = "results.json"
)

// Folder is where a benchmark writes.
type Folder struct {
	Path  string
	Maker string // the command that writes it, for instance "make bench"
}

// Write writes the results, the plots and the report that is made of them and of the
// links to the plots.
func (f Folder) Write(results any, plots []Plot, report func(links string) string) error {
	if err := os.MkdirAll(f.Path, 0o755); err != nil {
		return err
	}
	content, err := json.MarshalIndent(results, "", "\t")
	if err != nil {
		return err
	}
	files := map[string]string{resultsFile: string(content) + "\n"}
	page, err := os.ReadFile(filepath.Join(f.Path, readmeFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if files[readmeFile], err = f.insert(string(page), report(links(plots))); err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(f.Path, readmeFile), err)
	}
	for _, p := range plots {
		files[p.File] = p.SVG
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(f.Path, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Read reads the results that Write has written.
func (f Folder) Read(results any) error {
	content, err := os.ReadFile(filepath.Join(f.Path, resultsFile))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(content, results); err != nil {
		return fmt.Errorf("%s: %w", resultsFile, err)
	}
	return nil
}

func (f Folder) beginMark() string { return "<!-- written by " + f.Maker + ": begin -->" }
func (f Folder) endMark() string   { return "<!-- written by " + f.Maker + ": end -->" }

// insert replaces what is between the marks of a page. An empty page gets them.
func (f Folder) insert(page, text string) (string, error) {
	if page == "" {
		page = f.beginMark() + "\n" + f.endMark() + "\n"
	}
	before, rest, ok := strings.Cut(page, f.beginMark())
	if !ok {
		return "", errors.New("no line " + f.beginMark())
	}
	_, after, ok := strings.Cut(rest, f.endMark())
	if !ok {
		return "", errors.New("no line " + f.endMark())
	}
	return before + f.beginMark() + "\n" + text + f.endMark() + after, nil
}

// links shows the pictures on a page beside them.
func links(plots []Plot) string {
	var w strings.Builder
	for _, p := range plots {
		fmt.Fprintf(&w, "![%s](%s)\n\n", p.Title, p.File)
	}
	return w.String()
}
