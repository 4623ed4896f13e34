package main

import (
	"context"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Sequences for terminals (ECMA-48, and xterm's alternate screen). Without the wrapping
// of lines, a line that the terminal finds too long stays one line.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"
	leaveScreen = "\x1b[?7h\x1b[?25h\x1b[?1049l"
	toTop       = "\x1b[H"
	clearLine   = "\x1b[K"
	clearRest   = "\x1b[J"
)

// leaveTime is how long a terminal that takes no output may delay the end.
const leaveTime = 200 * time.Millisecond

// screen draws on the whole of a terminal, and leaves what was there before.
type screen struct {
	file   *os.File
	colors bool
}

// newScreen returns a screen on w, or nil if w is no terminal that can show one.
func newScreen(w io.Writer) *screen {
	f, ok := fileOf(w)
	if !ok || !isTerminal(f) {
		return nil
	}
	if term := os.Getenv("TERM"); term == "" || term == "dumb" {
		return nil
	}
	return &screen{file: f, colors: os.Getenv("NO_COLOR") == ""}
}

func isTerminal(f *os.File) bool {
	_, err := windowSize(f)
	return err == nil
}

// windowSize asks for a terminal's size. It fails if f is no terminal.
func windowSize(f *os.File) (size *unix.Winsize, err error) {
	c, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	if ctlErr := c.Control(func(fd uintptr) { size, err = unix.IoctlGetWinsize(int(fd), unix.TIOCGWINSZ) }); ctlErr != nil {
		return nil, ctlErr
	}
	return size, err
}

// size gives the columns and rows; those of a classic terminal if it does not know its
// own.
func (s *screen) size() (width, height int) {
	size, err := windowSize(s.file)
	if err != nil || size.Col == 0 || size.Row == 0 {
		return 80, 24
	}
	return int(size.Col), int(size.Row)
}

func (s *screen) enter(ctx context.Context) error { return writeUntil(ctx, s.file, enterScreen) }

// draw replaces what the screen shows.
func (s *screen) draw(ctx context.Context, lines []tableLine) error {
	var b strings.Builder
	b.WriteString(toTop)
	for i, l := range lines {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(s.paint(l))
		b.WriteString(clearLine)
	}
	b.WriteString(clearRest)
	return writeUntil(ctx, s.file, b.String())
}

// leave gives the terminal back, with the last lines on it.
func (s *screen) leave(lines []tableLine) error {
	var b strings.Builder
	b.WriteString(leaveScreen)
	for _, l := range lines {
		b.WriteString(s.paint(l) + "\r\n")
	}
	ctx, cancel := context.WithTimeout(context.Background(), leaveTime)
	defer cancel()
	return writeUntil(ctx, s.file, b.String())
}

func (s *screen) paint(l tableLine) string {
	if !s.colors || l.style == plain {
		return l.text
	}
	return "\x1b[" + string(l.style) + "m" + l.text + "\x1b[0m"
}
