//go:build race

package here

const race = true
