package recipe

import "testing"

const page = "# Page\n\n```sh\nno file\n```\n\n```ini a.conf\none\ntwo\n```\n\n```ini b.conf\nthree\n```\n\n```ini b.conf\nfour\n```\n"

func TestFind(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		file   string
		oldnew []string
		want   string // "" for an error
	}{
		"whole":       {file: "a.conf", want: "one\ntwo\n"},
		"replaced":    {file: "a.conf", oldnew: []string{"one", "1", "two", "2"}, want: "1\n2\n"},
		"not there":   {file: "a.conf", oldnew: []string{"three", "3"}},
		"no file":     {file: "c.conf"},
		"two of them": {file: "b.conf"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := find(page, test.file, test.oldnew)
			if got != test.want || (err == nil) != (test.want != "") {
				t.Errorf("got %q, %v, want %q", got, err, test.want)
			}
		})
	}
}

// TestText: the page is found from the directory of this package.
func TestText(t *testing.T) {
	t.Parallel()
	if text := Text(t, "Corefile"); text == "" {
		t.Error("the Corefile of docs/clients.md is empty")
	}
}
