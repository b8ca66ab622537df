//go:build !linux

package main

import "syscall"

// endWithParent does nothing: measureAll refuses other systems.
func endWithParent(*syscall.SysProcAttr) {}
