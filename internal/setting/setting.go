// Package setting reads and checks the fields of a configuration, whose tags are the only
// place that has their defaults, their bounds and the names by which operators set them:
//
//	KeepAliveInterval time.Duration `name:"KEEP-ALIVE-INTERVAL" default:"5s" min:"1ms" max:"24h"`
//
// A field without a name can be set by Go programs only. If operators could set it in
// earlier versions, the tag former has its name.
package setting

import (
	"fmt"
	"reflect"
	"strconv"
	"time"
)

// A Setting is a field of type int or [time.Duration].
type Setting struct {
	// Name is the operator's name for it, empty if operators cannot set it; Former is
	// the name that it had when they could.
	Name, Former string
	// Default, Min and Max as text.
	Default, Min, Max string

	field string // its name in Go
	value reflect.Value
	bad   error // of a tag, a mistake in the program
}

// Of lists the fields of the struct to which config points, in their order.
func Of(config any) []Setting {
	v := reflect.ValueOf(config).Elem()
	list := make([]Setting, v.NumField())
	for i := range list {
		f := v.Type().Field(i)
		s := Setting{Name: f.Tag.Get("name"), Former: f.Tag.Get("former"), field: f.Name, value: v.Field(i)}
		s.Default, s.Min, s.Max = s.tag(f, "default"), s.tag(f, "min"), s.tag(f, "max")
		list[i] = s
	}
	return list
}

func (s *Setting) tag(f reflect.StructField, key string) string {
	n, err := s.parse(f.Tag.Get(key))
	if err != nil {
		s.bad = fmt.Errorf("field %s has the bad tag %s: %w", f.Name, key, err)
	}
	return s.text(n)
}

// IsDuration reports whether the value is a time.Duration.
func (s Setting) IsDuration() bool { return s.value.Type() == reflect.TypeFor[time.Duration]() }

func (s Setting) parse(text string) (int64, error) {
	if s.IsDuration() {
		d, err := time.ParseDuration(text)
		return int64(d), err
	}
	n, err := strconv.Atoi(text)
	return int64(n), err
}

func (s Setting) text(n int64) string {
	if s.IsDuration() {
		return time.Duration(n).String()
	}
	return strconv.FormatInt(n, 10)
}

// String is the value as text that Set reads.
func (s Setting) String() string { return s.text(s.value.Int()) }

// Set reads the value from text.
func (s Setting) Set(text string) error {
	n, err := s.parse(text)
	switch {
	case s.bad != nil:
		return s.bad
	case s.IsDuration() && err != nil:
		return fmt.Errorf("%q is not a duration, such as 5s or 500ms", text)
	case err != nil || !s.allows(n):
		return fmt.Errorf("%q is not %s from %s to %s", text, s.kind(), s.Min, s.Max)
	}
	s.value.SetInt(n)
	return nil
}

func (s Setting) kind() string {
	if s.IsDuration() {
		return "a duration"
	}
	return "a number"
}

// Complete puts the default in place of 0, and checks the value.
func (s Setting) Complete() error {
	if s.value.IsZero() {
		s.value.SetInt(s.number(s.Default))
	}
	if s.bad != nil {
		return s.bad
	}
	if !s.allows(s.value.Int()) {
		return fmt.Errorf("%s is %v, but must be from %s to %s", s.field, s, s.Min, s.Max)
	}
	return nil
}

func (s Setting) allows(n int64) bool { return s.number(s.Min) <= n && n <= s.number(s.Max) }

// number reads a tag again, which Of has checked.
func (s Setting) number(text string) int64 {
	n, _ := s.parse(text)
	return n
}
