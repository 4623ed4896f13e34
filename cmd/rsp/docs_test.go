package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	shownCommand = regexp.MustCompile(`(?m)^    (?:\$ )?(?:[^\n]*\| )?rsp ([a-z][^|\n\\]*)`)
	shownFlag    = regexp.MustCompile(`(?:^| )--?([a-z][a-z0-9-]*)`)
)

// TestShownCommands: the command lines in the documents name commands and flags that exist.
func TestShownCommands(t *testing.T) {
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, name := range append(files, "../../README.md", "../../plugin/rserpool/README.md") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range shownCommand.FindAllStringSubmatch(string(text), -1) {
			line, _, _ := strings.Cut(m[1], " -- ")
			cmd, _, err := newRoot().Find(strings.Fields(line))
			if err != nil || cmd.Name() == "rsp" {
				t.Errorf("%s: rsp %s: no such command (%v)", name, line, err)
				continue
			}
			found++
			cmd.InitDefaultHelpFlag()
			for _, f := range shownFlag.FindAllStringSubmatch(line, -1) {
				if long := cmd.Flags().Lookup(f[1]); long == nil && (len(f[1]) > 1 || cmd.Flags().ShorthandLookup(f[1]) == nil) {
					t.Errorf("%s: rsp %s: no flag %q", name, line, f[1])
				}
			}
		}
	}
	if found < 10 {
		t.Errorf("only %d command lines found", found)
	}
}
