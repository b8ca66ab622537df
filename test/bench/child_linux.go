package main

import "syscall"

// endWithParent has the kernel kill the child when we end, however that comes.
func endWithParent(attributes *syscall.SysProcAttr) { attributes.Pdeathsig = syscall.SIGKILL }
