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

// Setup is what the results of a run begin with: where it was and what took part.
type Setup struct {
	Machine rig.Machine `json:"machine"`
	Quick   bool        `json:"quick,omitempty"` // it shows that everything runs, no more
	Targets []Program   `json:"targets"`
	Missing []string    `json:"missing,omitempty"`
}

// Names lists the targets.
func (s *Setup) Names() []string {
	var names []string
	for _, p := range s.Targets {
		names = append(names, p.Name)
	}
	return names
}

// Introduction says where and when the run was, by what means, and lists the programs,
// also those that are missing.
func (s *Setup) Introduction(means string) string {
	var w strings.Builder
	m := &s.Machine
	if s.Quick {
		means += " **This was a quick run: it shows that everything runs and measures nothing.**"
	}
	fmt.Fprintf(&w, "Run of %s on %d cores (%s), %.0f GB of memory, %s, which clients, poolers and PostgreSQL share. %s\n\n",
		m.Date, m.Cores, m.Processor, float64(m.MemoryBytes)/(1<<30), m.Kernel, means)
	for _, p := range s.Targets {
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
	for _, name := range s.Missing {
		fmt.Fprintf(&w, "- %s was not installed and is left out.\n", name)
	}
	w.WriteString("\n")
	return w.String()
}
