//go:build race

package hostile

func init() { slow = 8 } // the race detector multiplies time and memory
