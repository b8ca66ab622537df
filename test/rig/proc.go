package rig

import (
	"fmt"
	"os"
	"path/filepath"
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
	return parseCPUTime(string(content), 2)
}

// familyCPUTime is cpuTime of a process and its children, those that have ended included.
func familyCPUTime(pid int) (time.Duration, error) {
	own, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	sum, err := parseCPUTime(string(own), 4)
	if err != nil {
		return 0, err
	}
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	for _, file := range files {
		stat, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended: the next look counts it among those of its parent
		}
		if parentOf(string(stat)) != pid {
			continue
		}
		child, err := parseCPUTime(string(stat), 2)
		if err != nil {
			return 0, err
		}
		sum += child
	}
	return sum, nil
}

// statFields are the fields of proc_pid_stat(5) from the third on. The second is the
// program's name in parentheses, which may hold anything.
func statFields(stat string) []string {
	return strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
}

// parentOf is the process id of the parent, 0 if there is none.
func parentOf(stat string) int {
	const ppid = 4 - 3
	if fields := statFields(stat); len(fields) > ppid {
		parent, _ := strconv.Atoi(fields[ppid])
		return parent
	}
	return 0
}

// parseCPUTime adds up so many fields of proc_pid_stat(5) from the 14th: user and system
// time, and those of children that have ended.
func parseCPUTime(stat string, count int) (time.Duration, error) {
	fields := statFields(stat)
	const utime = 14 - 3
	if len(fields) < utime+count {
		return 0, fmt.Errorf("process statistics %q: expected at least %d fields", stat, 13+count)
	}
	ticks := uint64(0)
	for _, field := range fields[utime : utime+count] {
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
