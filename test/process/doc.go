// Package process builds and runs the billproxy binary for tests.
package process
