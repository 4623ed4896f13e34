package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"text/tabwriter"
)

// row is a figure: what it is of ours, of a neighbour measured beside it, and
// what it is to be.
type row struct {
	name      string
	ours      string
	neighbour string
	ratio     float64 // ours by the neighbour's, or by the bound; 0 for none
	target    string
	most      float64 // what ratio may be; 0 for a figure without a target
}

// table is the figures in their order.
type table struct{ rows []row }

func (t *table) add(r row) { t.rows = append(t.rows, r) }

// bound adds a figure that has an absolute bound.
func (t *table) bound(name string, ours, most float64, unit string) {
	r := row{name: name, ours: number(ours) + unit, target: "<= " + number(most) + unit, most: 1}
	switch {
	case most > 0:
		r.ratio = ours / most
	case ours > 0:
		r.ratio = math.Inf(1)
	}
	t.add(r)
}

// info adds a figure without a target.
func (t *table) info(name, ours string) { t.add(row{name: name, ours: ours}) }

func (r row) met() string {
	switch {
	case r.most == 0:
		return ""
	case r.ratio <= r.most:
		return "yes"
	}
	return "NO"
}

func (t *table) print(w io.Writer) {
	tw := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	fmt.Fprintln(tw, "| figure\t| ours\t| neighbour\t| ratio\t| target\t| met\t|")
	fmt.Fprintln(tw, "|---\t|---\t|---\t|---\t|---\t|---\t|")
	for _, r := range t.rows {
		ratio := ""
		if r.ratio != 0 && !math.IsInf(r.ratio, 0) {
			ratio = strconv.FormatFloat(r.ratio, 'f', 2, 64)
		}
		fmt.Fprintf(tw, "| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t|\n", r.name, r.ours, r.neighbour, ratio, r.target, r.met())
	}
	tw.Flush()
}

// number writes three digits, or all before the point.
func number(v float64) string {
	switch {
	case v >= 100 || v == math.Trunc(v):
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

func median(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	n := len(s)
	switch {
	case n == 0:
		return 0
	case n%2 == 0:
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[n/2]
}

// medianRatio is the median of the ratios of each turn.
func medianRatio(a, b []float64) float64 {
	ratios := make([]float64, len(a))
	for i := range a {
		ratios[i] = a[i] / b[i]
	}
	return median(ratios)
}
