package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
)

// productVersion is the version of billproxy.
const productVersion = "0.1.0"

// versionText is the version and, if the build knows it, the commit.
func versionText() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return productVersion
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" && len(setting.Value) >= 12 {
			return productVersion + "+" + setting.Value[:12]
		}
	}
	return productVersion
}

func runVersion(_ context.Context, e *environment) error {
	_, err := fmt.Fprintf(e.stdout, "billproxy %s %s %s/%s\n", versionText(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
