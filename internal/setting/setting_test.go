package setting

import (
	"strings"
	"testing"
	"time"
)

type config struct {
	Wait time.Duration `name:"WAIT" default:"5s" min:"1ms" max:"24h"`
	Most int           `name:"most" default:"3" min:"0" max:"9"`
	Size int           `former:"size" default:"7" min:"1" max:"8"`
}

func TestOf(t *testing.T) {
	c := config{Most: 4}
	list := Of(&c)
	for _, s := range list {
		if err := s.Complete(); err != nil {
			t.Error(err)
		}
	}
	if want := (config{5 * time.Second, 4, 7}); c != want {
		t.Errorf("got %+v, want %+v", c, want)
	}
	if w := list[0]; w.Name != "WAIT" || w.field != "Wait" || w.Default != "5s" || w.Min != "1ms" || w.Max != "24h0m0s" || w.String() != "5s" || !w.IsDuration() {
		t.Errorf("got %+v", w)
	}
	if m := list[1]; m.Name != "most" || m.Default != "3" || m.Min != "0" || m.Max != "9" || m.String() != "4" || m.IsDuration() {
		t.Errorf("got %+v", m)
	}
	if s := list[2]; s.Name != "" || s.Former != "size" {
		t.Errorf("got name %q, former %q, want none, size", s.Name, s.Former)
	}
}

func TestSet(t *testing.T) {
	for _, c := range []struct {
		field   int
		text    string
		want    config
		problem string // the error instead
	}{
		{0, "500ms", config{Wait: 500 * time.Millisecond}, ""},
		{0, "5", config{}, `"5" is not a duration, such as 5s or 500ms`},
		{0, "0s", config{}, `"0s" is not a duration from 1ms to 24h0m0s`},
		{0, "-5s", config{}, `"-5s" is not a duration from 1ms to 24h0m0s`},
		{0, "25h", config{}, `"25h" is not a duration from 1ms to 24h0m0s`},
		{0, "1us", config{}, "from 1ms"},
		{1, "9", config{Most: 9}, ""},
		{1, "0", config{}, ""},
		{1, "10", config{}, `"10" is not a number from 0 to 9`},
		{1, "5s", config{}, `"5s" is not a number from 0 to 9`},
		{1, "-1", config{}, "is not a number"},
	} {
		var got config
		err := Of(&got)[c.field].Set(c.text)
		if (err != nil) != (c.problem != "") || err != nil && !strings.Contains(err.Error(), c.problem) {
			t.Errorf("%q: got error %v, want %q", c.text, err, c.problem)
		}
		if got != c.want {
			t.Errorf("%q: got %+v, want %+v", c.text, got, c.want)
		}
	}
}

func TestCompleteRefuses(t *testing.T) {
	c := config{Wait: -1, Size: 9}
	list := Of(&c)
	if err := list[0].Complete(); err == nil || err.Error() != "Wait is -1ns, but must be from 1ms to 24h0m0s" {
		t.Errorf("got %v", err)
	}
	if err := list[2].Complete(); err == nil || err.Error() != "Size is 9, but must be from 1 to 8" {
		t.Errorf("got %v", err)
	}
}

func TestBadTag(t *testing.T) {
	s := Of(&struct {
		N int `default:"1" min:"1"`
	}{})[0]
	for _, err := range []error{s.Complete(), s.Set("1")} {
		if err == nil || !strings.Contains(err.Error(), "field N has the bad tag max") {
			t.Errorf("got error %v, want one that names field and tag", err)
		}
	}
}
