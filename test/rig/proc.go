package rig

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of the times in /proc/<pid>/stat: USER_HZ is 100 on every Linux.
const tick = 10 * time.Millisecond

// cpuTime is the user and system time that all threads of a process have used.
func cpuTime(pid int) (time.Duration, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return parseCPUTime(string(content))
}

// parseCPUTime reads fields 14 and 15 of proc_pid_stat(5). Field 2 is the program's
// name in parentheses, which may hold anything.
func parseCPUTime(stat string) (time.Duration, error) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	const utime = 14 - 3
	if len(fields) <= utime+1 {
		return 0, fmt.Errorf("process statistics %q: expected at least 15 fields", stat)
	}
	ticks := uint64(0)
	for _, field := range fields[utime : utime+2] {
		value, err := strconv.ParseUint(field, 10, 63)
		if err != nil {
			return 0, fmt.Errorf("CPU time in process statistics: %w", err)
		}
		ticks += value
	}
	return time.Duration(ticks) * tick, nil
}

// residentBytes is the resident set size of a process.
func residentBytes(pid int) (int64, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	return kilobytesOf(string(content), "VmRSS")
}

// kilobytesOf reads a line such as "VmRSS:   1234 kB", as in /proc/<pid>/status and
// /proc/meminfo, and returns bytes.
func kilobytesOf(content, name string) (int64, error) {
	for line := range strings.Lines(content) {
		value, ok := strings.CutPrefix(line, name+":")
		if !ok {
			continue
		}
		kilobytes, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 53)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
		return kilobytes << 10, nil
	}
	return 0, fmt.Errorf("no line %s", name)
}
