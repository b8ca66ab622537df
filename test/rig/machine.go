package rig

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Machine is what a reader must know to compare figures; nothing in it names the
// machine.
type Machine struct {
	Date        string    `json:"date"`
	Cores       int       `json:"cores"`
	Processor   string    `json:"processor"`
	MemoryBytes int64     `json:"memory_bytes"`
	Kernel      string    `json:"kernel"`
	Go          string    `json:"go"`
	Settings    []Setting `json:"settings"` // of PostgreSQL
}

// Setting is a parameter of PostgreSQL.
type Setting struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// reportedSettings decide what a transaction costs the server.
var reportedSettings = []string{
	"fsync", "synchronous_commit", "full_page_writes", "wal_level", "shared_buffers", "max_connections", "ssl",
}

// kernelVersion is the number in a release such as "6.12.41+deb13-amd64".
var kernelVersion = regexp.MustCompile(`^\d+\.\d+`)

// ReadMachine looks at the machine and at PostgreSQL's settings.
func ReadMachine(ctx context.Context, admin *pgx.Conn, date string) (Machine, error) {
	m := Machine{Date: date, Cores: runtime.NumCPU(), Go: runtime.Version()}
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return m, err
	}
	m.Kernel = "Linux " + kernelVersion.FindString(string(release))
	memory, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return m, err
	}
	if m.MemoryBytes, err = kilobytesOf(string(memory), "MemTotal"); err != nil {
		return m, err
	}
	processor, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return m, err
	}
	m.Processor = processorName(string(processor))
	for _, name := range reportedSettings {
		var value string
		if err := admin.QueryRow(ctx, "SELECT current_setting($1)", name).Scan(&value); err != nil {
			return m, fmt.Errorf("read the setting %s: %w", name, err)
		}
		m.Settings = append(m.Settings, Setting{name, value})
	}
	return m, nil
}

// processorName is the first "model name" in /proc/cpuinfo, which not every
// architecture has.
func processorName(cpuinfo string) string {
	for line := range strings.Lines(cpuinfo) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}
