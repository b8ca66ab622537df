package launch

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// Build builds the binary with flags of go build. The race detector needs cgo.
func Build(ctx context.Context, path string, flags ...string) error {
	args := append(append([]string{"build", "-o", path}, flags...), "github.com/billproxy/billproxy/cmd/billproxy")
	cmd := exec.CommandContext(ctx, "go", args...)
	cgo := "0"
	for _, flag := range flags {
		if flag == "-race" {
			cgo = "1"
		}
	}
	cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build billproxy: %w\n%s", err, output)
	}
	return nil
}

// OpenSources looks into every folder that the binary is built from, which are two
// above that of the test. It is called by tests: go test takes a result from its
// cache unless something changed that the tests have opened, and it does not see what
// the build opens.
var OpenSources = sync.OnceValue(func() error {
	return filepath.WalkDir(filepath.Join("..", ".."), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && entry.Name() != ".." {
			return fs.SkipDir
		}
		return err
	})
})
