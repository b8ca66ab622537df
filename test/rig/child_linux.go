package rig

import "syscall"

// EndWithParent has the kernel kill the child when we end, however that comes.
func EndWithParent(attributes *syscall.SysProcAttr) { attributes.Pdeathsig = syscall.SIGKILL }
