package shed

import (
	"testing"
	"time"
)

// machine is a PostgreSQL whose statements take longer the more of them run.
type machine struct {
	limit Limit
	now   time.Duration
}

// run has as many statements run as the limit allows, for a while. slowness tells how
// much longer each takes then.
func (m *machine) run(duration time.Duration, slowness func(servers float64) float64) {
	const usual = 2 * time.Millisecond
	for end := m.now + duration; m.now < end; {
		servers := float64(m.limit.Servers())
		slow := slowness(servers)
		m.now += time.Duration(slow * float64(usual) / servers)
		m.limit.observe(slow, m.now)
	}
}

func TestLimit(t *testing.T) {
	for name, c := range map[string]struct {
		slowness    func(servers float64) float64
		least, most int
	}{
		"nothing is slow":             {func(float64) float64 { return 1 }, 16, 16},
		"a little slow":               {func(float64) float64 { return 2 }, 16, 16},
		"processors are short":        {func(n float64) float64 { return max(1, n/4) }, 6, 13},
		"the more the slower all are": {func(n float64) float64 { return max(1, n*n/16) }, 4, 9},
		"everything is slow":          {func(float64) float64 { return 8 }, 15, 16},
		"a little slower with more":   {func(n float64) float64 { return 3 + n/16 }, 15, 16},
	} {
		t.Run(name, func(t *testing.T) {
			m := machine{now: time.Hour}
			m.limit.set(16)
			m.run(20*time.Second, c.slowness)
			least, most := 100, 0
			total := 0
			for range 100 {
				m.run(100*time.Millisecond, c.slowness)
				servers := m.limit.Servers()
				least, most, total = min(least, servers), max(most, servers), total+servers
			}
			if mean := total / 100; mean < c.least || mean > c.most {
				t.Errorf("%d servers on average (%d to %d), want %d to %d", mean, least, most, c.least, c.most)
			}
			m.run(10*time.Second, func(float64) float64 { return 1 })
			if servers := m.limit.Servers(); servers != 16 {
				t.Errorf("%d servers when nothing is slow any more", servers)
			}
		})
	}
}

func TestRamp(t *testing.T) {
	m := machine{now: time.Hour}
	m.limit.set(20)
	m.limit.ramp(m.now)
	for i, want := range []int{12, 16, 20, 20, 20} {
		if servers := m.limit.Servers(); servers != want {
			t.Errorf("%d servers after %d periods, want %d", servers, i, want)
		}
		m.run(limitPeriod, func(float64) float64 { return 1 })
		m.limit.advance(m.now)
	}
}
