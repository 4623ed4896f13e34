//go:build race

package pu

const raceEnabled = true
