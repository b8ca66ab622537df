//go:build !linux

package rig

import "syscall"

// EndWithParent does nothing: benchmarks refuse other systems.
func EndWithParent(*syscall.SysProcAttr) {}
