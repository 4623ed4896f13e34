package registrars

import (
	"fmt"
	"strings"

	"github.com/rserpool/coredns-rserpool/internal/setting"
)

// To add a timer or limit that operators can set: a field of registrar.Timers,
// registrar.Limits or host.TransportLimits, with tags for its name, default and bounds;
// a row in the README. Parser and defaults follow from the tags.

// named is a timer or limit, with the option that sets it.
type named struct {
	setting.Setting
	option string
}

// settings are all timers and limits of o, also those that operators cannot set.
func (o *Options) settings() []named {
	var all []named
	add := func(option string, config any) {
		for _, s := range setting.Of(config) {
			all = append(all, named{s, option})
		}
	}
	add("timer", &o.Timers)
	add("limit", &o.Limits)
	add("limit", &o.Transports)
	return all
}

// Set sets a timer or limit by its name, whose case does not count.
func (o *Options) Set(option, name, value string) error {
	var names []string
	for _, s := range o.settings() {
		switch {
		case s.option != option:
		case s.Name != "" && strings.EqualFold(s.Name, name):
			if err := s.Set(value); err != nil {
				return fmt.Errorf("%s: %w", s.Name, err)
			}
			return nil
		case s.Name != "":
			names = append(names, s.Name)
		case s.Former != "" && strings.EqualFold(s.Former, name):
			return fmt.Errorf("%s cannot be set any more, and is always %s: remove this line", name, s.Default)
		}
	}
	return fmt.Errorf("unknown %s '%s'; the %ss are: %s", option, name, option, strings.Join(names, ", "))
}
