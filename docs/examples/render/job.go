package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
)

// Job is a tile of the picture, and how far its calculation has come. It is the request of a
// pool user, and the state that an element seals in a cookie.
type Job struct {
	// Number names the job within the picture.
	Number int `json:"number"`
	// Left and Top are the complex number of the first pixel, Step the distance between
	// two pixels.
	Left float64 `json:"left"`
	Top  float64 `json:"top"`
	Step float64 `json:"step"`
	// Width and Rows are the size in pixels.
	Width int `json:"width"`
	Rows  int `json:"rows"`
	// Limit is how many iterations are tried for a pixel.
	Limit int `json:"limit"`
	// Next is the row to calculate next.
	Next int `json:"next"`
}

// The greatest job that an element takes: a request comes from the network.
const (
	maxWidth = 4096
	maxRows  = 4096
	maxLimit = 65535
)

func parseJob(text []byte) (Job, error) {
	var j Job
	if err := json.Unmarshal(text, &j); err != nil {
		return j, fmt.Errorf("job: %w", err)
	}
	if j.Width < 1 || j.Width > maxWidth || j.Rows < 1 || j.Rows > maxRows || j.Limit < 1 || j.Limit > maxLimit ||
		j.Next < 0 || j.Next > j.Rows {
		return j, fmt.Errorf("job %d of %d x %d pixels with %d iterations is too large", j.Number, j.Width, j.Rows, j.Limit)
	}
	return j, nil
}

func (j Job) text() []byte {
	b, err := json.Marshal(j)
	if err != nil {
		panic(err) // no value of a Job does that
	}
	return b
}

// row calculates a row of the Mandelbrot set: for each pixel the number of iterations until
// it is certain that the number grows without bound.
func (j Job) row(y int) []uint16 {
	row := make([]uint16, j.Width)
	for x := range row {
		c := complex(j.Left+float64(x)*j.Step, j.Top+float64(y)*j.Step)
		var z complex128
		n := 0
		for n < j.Limit && real(z)*real(z)+imag(z)*imag(z) < 4 {
			z = z*z + c
			n++
		}
		row[x] = uint16(n)
	}
	return row
}

// rowMessage is a row as a message: its number and its pixels.
func rowMessage(y int, row []uint16) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(y))
	for _, n := range row {
		b = binary.BigEndian.AppendUint16(b, n)
	}
	return b
}

func parseRow(b []byte, width int) (y int, row []uint16, err error) {
	if len(b) != 4+2*width {
		return 0, nil, errors.New("not a row of the tile")
	}
	for i := 4; i < len(b); i += 2 {
		row = append(row, binary.BigEndian.Uint16(b[i:]))
	}
	return int(binary.BigEndian.Uint32(b)), row, nil
}
