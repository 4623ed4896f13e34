//go:build race

package registrar

func init() { spreadElements = 20000 } // the race detector is slow
