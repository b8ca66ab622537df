package page

import (
	"fmt"
	"strings"

	"github.com/billproxy/billproxy/test/rig"
)

// Program is a target as the page introduces it.
type Program struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// Introduction says where and when the run was, by what means, and lists the programs,
// also those that are missing.
func Introduction(m rig.Machine, means string, programs []Program, missing []string) string {
	var w strings.Builder
	fmt.Fprintf(&w, "Run of %s on %d cores (%s), %.0f GB of memory, %s, which clients, poolers and PostgreSQL share. %s\n\n",
		m.Date, m.Cores, m.Processor, float64(m.MemoryBytes)/(1<<30), m.Kernel, means)
	for _, p := range programs {
		version := p.Version
		if p.Name == rig.Direct {
			var settings []string
			for _, s := range m.Settings {
				settings = append(settings, fmt.Sprintf("`%s = %s`", s.Name, s.Value))
			}
			version += ", defaults but for max_connections: " + strings.Join(settings, ", ")
		}
		if !strings.HasPrefix(strings.ToLower(version), strings.ToLower(p.Name)) {
			version = p.Name + ": " + version
		}
		fmt.Fprintf(&w, "- %s\n", strings.TrimSuffix(version, ": "))
	}
	for _, name := range missing {
		fmt.Fprintf(&w, "- %s was not installed and is left out.\n", name)
	}
	w.WriteString("\n")
	return w.String()
}
