package asap

import "testing"

func FuzzParse(f *testing.F) { codec.Fuzz(f, nil) }
