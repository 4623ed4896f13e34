package state

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestKill: a process that writes all the time is killed at any moment, again and again, also
// between the writes that fill a new set of entries. The
// next one always finds a file that opens, with a transaction as a whole, and nothing older
// than what was on the disk before the kill.
func TestKill(t *testing.T) {
	rounds := 40
	if testing.Short() {
		rounds = 6
	}
	dir := filepath.Join(t.TempDir(), "state")
	r := rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano())))
	last := uint64(0)
	for range rounds {
		told := writeUntilKilled(t, dir, time.Duration(r.IntN(120))*time.Millisecond)
		l := new(log)
		s := open(t, dir, l)
		if l.String() != "" {
			t.Fatalf("log: %s", l)
		}
		if got := wholeRound(t, content(t, s)); got < max(last, told) {
			t.Fatalf("round %d is on the disk, but %d was", got, max(last, told))
		} else {
			last = got
		}
		closed(t, s)
	}
	if last < uint64(rounds) {
		t.Errorf("only %d rounds were written", last)
	}
}

// roundKeys is the number of keys of a round.
const roundKeys = 50

// wholeRound checks that all entries are of one round, and returns its number.
func wholeRound(t *testing.T, m map[string]string) uint64 {
	t.Helper()
	if len(m) == 0 {
		return 0
	}
	round := ""
	for k, v := range m {
		v = v[:8]
		if round == "" {
			round = v
		}
		if v != round {
			t.Fatalf("%s is of round %x, others of round %x", k, v, round)
		}
	}
	n := binary.BigEndian.Uint64([]byte(round))
	if want := roundKeys + int(n%7); len(m) != want {
		t.Fatalf("%d entries of round %d, want %d", len(m), n, want)
	}
	return n
}

// writeUntilKilled runs TestKillChild and kills it after a while. It returns the last round
// that the child has told to be written.
func writeUntilKilled(t *testing.T, dir string, after time.Duration) (round uint64) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKillChild$")
	cmd.Env = append(os.Environ(), "STATE_DIR="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	var kill *time.Timer
	for lines.Scan() {
		if kill == nil { // it has begun to write
			kill = time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
		}
		n, err := strconv.ParseUint(strings.TrimPrefix(lines.Text(), "round "), 10, 64)
		if err != nil {
			t.Errorf("the child says %q", lines.Text())
			break
		}
		round = n
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	return round
}

// roundValue is a value of a round: its number, and something that makes pages come and go.
type roundValue struct {
	round uint64
	more  int
}

func (v roundValue) Append(b []byte) ([]byte, error) {
	return append(binary.BigEndian.AppendUint64(b, v.round), make([]byte, v.more)...), nil
}

// TestKillChild writes rounds: each changes all entries, and adds and deletes some.
func TestKillChild(t *testing.T) {
	dir := os.Getenv("STATE_DIR")
	if dir == "" {
		t.Skip("is run by TestKill")
	}
	cfg := Config{Dir: dir}
	cfg.complete()
	o := openFile(cfg, nil)
	if o.err != nil {
		t.Fatal(o.err)
	}
	round := uint64(0)
	if err := o.each(func(_, v []byte) error { round = binary.BigEndian.Uint64(v); return nil }); err != nil {
		t.Fatal(err)
	}
	for {
		round++
		// Each fifth round fills a new set of entries, which takes the place of the former one with
		// the last write.
		parts := 1
		if round%5 == 0 {
			parts = 3
		}
		batches := make([]*batch, parts)
		for i := range batches {
			batches[i] = &batch{changes: make(map[string]Value), begin: parts > 1 && i == 0, finish: i == parts-1}
		}
		for i := range roundKeys + 7 {
			k, b := fmt.Sprintf("key %d", i), batches[i%parts]
			b.changes[k] = roundValue{round, int(round*uint64(i)) % 500}
			if i >= roundKeys+int(round%7) {
				b.changes[k] = nil
			}
		}
		for _, b := range batches {
			if err := o.disk.commit(b); err != nil {
				t.Fatal(err)
			}
		}
		fmt.Printf("round %d\n", round)
	}
}
