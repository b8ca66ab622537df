// Package launch builds and runs the billproxy binary for tests.
package launch
