package main

import "testing"

// slow leaves a test of more than two seconds out of `make short`.
func slow(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("takes some seconds")
	}
}
