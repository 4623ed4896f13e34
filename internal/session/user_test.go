package session

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

func TestDial(t *testing.T) {
	t.Run("one selection, one association", func(t *testing.T) {
		d := newDriver(t, UserConfig{})
		d.selected(7)
		d.up()
		d.mustSend("hello")
		d.want("0s select", "0s connect 7", "0s connected 7", "0s send hello")
	})
	t.Run("a certain element", func(t *testing.T) {
		d := newDriver(t, UserConfig{Element: 5})
		d.want("0s select want 5")
	})
	t.Run("only one element", func(t *testing.T) {
		only := element(5)
		d := newDriver(t, UserConfig{Only: &only})
		d.down("refused")
		d.want("0s connect 5", "0s try failed 5: refused", "0s report 5", "0s ended: failover")
		var f *rserpool.FailoverError
		if !errors.As(d.u.Err(), &f) || len(f.Attempts) != 1 || f.Selection != nil {
			t.Errorf("error %v, want one with one attempt", d.u.Err())
		}
		d = newDriver(t, UserConfig{Only: &only})
		d.up()
		d.card(6, 7)
		d.log = nil
		d.down("lost")
		d.want("0s failing 5: lost", "0s report 5", "0s ended: failover")
	})
	t.Run("the first candidates fail", func(t *testing.T) {
		d := newDriver(t, UserConfig{})
		d.selected(1, 2, 3)
		d.down("refused")
		d.until(2 * time.Second)
		d.up()
		d.want("0s select", "0s connect 1", "0s try failed 1: refused", "0s report 1", "0s connect 2",
			"2s abort", "2s try failed 2: no association came up in time: 2s", "2s report 2", "2s connect 3", "2s connected 3")
	})
	t.Run("the cache, then a registrar, then the end", func(t *testing.T) {
		d := newDriver(t, UserConfig{})
		d.selected(1)
		d.down("refused")
		d.selected()
		d.fresh(1, 2)
		d.down("refused")
		d.selected()
		d.want("0s select", "0s connect 1", "0s try failed 1: refused", "0s report 1", "0s select -1", "0s select fresh -1",
			"0s connect 2", "0s try failed 2: refused", "0s report 2", "0s select -1 -2", "0s ended: failover")
		var f *rserpool.FailoverError
		if !errors.As(d.u.Err(), &f) || len(f.Attempts) != 2 || f.Cause != nil {
			t.Errorf("error %v, want one with two attempts", d.u.Err())
		}
	})
	t.Run("a selection that has asked a registrar is not repeated", func(t *testing.T) {
		d := newDriver(t, UserConfig{})
		unknown := errors.New("unknown pool")
		d.u.Selected(d.now, d.sel, nil, true, unknown)
		d.collect()
		d.want("0s select", "0s ended: failover")
		if !errors.Is(d.u.Err(), unknown) {
			t.Errorf("error %v, want the selection's", d.u.Err())
		}
	})
	t.Run("not SCTP", func(t *testing.T) {
		d := newDriver(t, UserConfig{})
		e := element(1)
		e.UserTransport.Type, e.UserTransport.Use = rserpool.TCP, 0
		d.u.Selected(d.now, d.sel, []rserpool.PoolElement{e}, true, nil)
		d.collect()
		d.selected()
		d.want("0s select", "0s select -1", "0s ended: failover")
		if !errors.Is(d.u.Err(), errNotSCTP) {
			t.Errorf("error %v, want the reason", d.u.Err())
		}
	})
	t.Run("time runs out", func(t *testing.T) {
		d := newDriver(t, UserConfig{FailoverTime: 5 * time.Second})
		d.until(time.Minute)
		d.want("0s select", "5s ended: failover")
	})
	t.Run("with a cookie of an earlier session", func(t *testing.T) {
		d := newDriver(t, UserConfig{Cookie: []byte("old")})
		d.selected(1)
		d.up()
		d.want("0s select", "0s connect 1", "0s connected 1", "0s send ECHO old")
	})
}

func TestFailover(t *testing.T) {
	t.Run("cookie, card, unacknowledged messages, new ones", func(t *testing.T) {
		d := newDriver(t, UserConfig{Unacked: Resend, Card: &asap.BusinessCard{Handle: "mine"}})
		d.selected(1)
		d.up()
		d.want("0s select", "0s connect 1", "0s connected 1", "0s send CARD mine")
		d.cookie("c1")
		d.mustSend("a", "b", "c")
		d.cookie("c2")
		d.u.Ack(1)
		d.log = nil
		d.down("lost")
		if err := d.send("d"); !errors.Is(err, ErrWait) {
			t.Errorf("Send in a failover: got %v, want ErrWait", err)
		}
		d.selected(2)
		d.up()
		d.mustSend("d")
		d.want("0s failing 1: lost", "0s report 1", "0s select -1", "0s connect 2", "0s failed over 1 to 2",
			"0s send ECHO c2", "0s send CARD mine", "0s send b", "0s send c", "0s send d")
	})
	t.Run("messages dropped", func(t *testing.T) {
		d := connected(t, UserConfig{})
		d.mustSend("a")
		d.down("lost")
		d.selected(2)
		d.up()
		d.want("0s send a", "0s failing 1: lost", "0s report 1", "0s select -1", "0s connect 2", "0s failed over 1 to 2")
	})
	t.Run("the application decides", func(t *testing.T) {
		d := connected(t, UserConfig{Unacked: AskApp})
		d.cookie("c")
		d.mustSend("a", "b")
		d.log = nil
		d.down("lost")
		d.selected(2)
		d.up()
		d.want("0s failing 1: lost", "0s report 1", "0s select -1", "0s connect 2", "0s ask a b", "0s failed over 1 to 2")
		if err := d.send("x"); !errors.Is(err, ErrWait) {
			t.Errorf("Send while asking: got %v, want ErrWait", err)
		}
		d.u.Answer(d.ask, []Message{{Data: []byte("b again")}})
		d.collect()
		d.mustSend("c")
		d.want("0s send ECHO c", "0s send b again", "0s send c")
	})
	t.Run("the application is asked although nothing is unacknowledged", func(t *testing.T) {
		d := connected(t, UserConfig{Unacked: AskApp})
		d.down("lost")
		d.selected(2)
		d.up()
		d.u.Answer(d.ask, []Message{{Data: []byte("where are we?")}})
		d.collect()
		d.want("0s failing 1: lost", "0s report 1", "0s select -1", "0s connect 2", "0s ask", "0s failed over 1 to 2", "0s send where are we?")
	})
	t.Run("the application wants an invalid message to be sent", func(t *testing.T) {
		d := connected(t, UserConfig{Unacked: AskApp})
		d.mustSend("a")
		d.down("lost")
		d.selected(2)
		d.up()
		d.log = nil
		d.u.Answer(d.ask, []Message{{Data: []byte("b")}, {Data: nil}})
		d.collect()
		const why = "message 1 that OnFailover has returned is invalid: message without data: SCTP has none such"
		d.want("0s abort", "0s ended: "+why)
		if left := d.u.Unacked(); len(left) != 1 || string(left[0].Data) != "a" {
			t.Errorf("unacknowledged: %v, want a", left)
		}
	})
	t.Run("it fails while the application decides", func(t *testing.T) {
		d := connected(t, UserConfig{Unacked: AskApp})
		d.mustSend("a")
		d.down("lost")
		d.selected(2)
		d.up()
		old := d.ask
		d.down("lost too")
		d.u.Answer(old, nil) // late
		d.selected(3)
		d.up()
		d.log = nil
		d.u.Answer(d.ask, []Message{{Data: []byte("a")}})
		d.collect()
		d.want("0s send a")
	})
	t.Run("last will first, in its order", func(t *testing.T) {
		d := connected(t, UserConfig{})
		d.card(4, 5)
		d.card(6, 1, 3) // the newer one counts; 1 is itself
		d.down("lost")
		d.down("refused")
		d.down("refused")
		d.selected(2)
		d.want("0s card of 1", "0s card of 1", "0s failing 1: lost", "0s report 1", "0s connect 6", "0s try failed 6: refused",
			"0s report 6 hearsay", "0s connect 3", "0s try failed 3: refused", "0s report 3 hearsay", "0s select -1 -6 -3", "0s connect 2")
	})
	t.Run("a last will of silent elements", func(t *testing.T) {
		d := connected(t, UserConfig{})
		d.card(4, 5, 6, 7, 8)
		d.log = nil
		d.down("lost")
		d.until(4 * time.Second)
		d.selected(2)
		var short []string
		for _, line := range d.log {
			if !strings.Contains(line, "failed") && !strings.Contains(line, "abort") && !strings.Contains(line, "report") {
				short = append(short, line)
			}
		}
		d.log = short
		d.want("0s failing 1: lost", "0s connect 4", "2s connect 5", "4s select -1 -4 -5", "4s connect 2")
	})
	t.Run("the last will of one element is not that of the next", func(t *testing.T) {
		d := connected(t, UserConfig{})
		d.card(4, 5)
		d.down("lost")
		d.up()
		d.data("answer")
		d.log = nil
		d.down("lost too")
		d.want("0s failing 4: lost too", "0s report 4 hearsay", "0s select -4")
	})
	t.Run("a double failure goes on with the last will", func(t *testing.T) {
		d := connected(t, UserConfig{})
		d.card(4, 5)
		d.down("lost")
		d.up()
		d.log = nil
		d.down("lost too")
		d.want("0s failing 4: lost too", "0s report 4 hearsay", "0s connect 5")
	})
	t.Run("all dead, then one comes back", func(t *testing.T) {
		d := connected(t, UserConfig{})
		d.cookie("c")
		d.log = nil
		d.down("lost")
		d.selected()
		d.fresh(1)
		d.want("0s failing 1: lost", "0s report 1", "0s select -1", "0s select fresh -1")
		d.until(200 * time.Millisecond)
		if len(d.log) != 1 || !strings.HasSuffix(d.log[0], "select fresh") {
			t.Fatalf("log %q, want one fresh selection of all elements", d.log)
		}
		d.log, d.now = nil, epoch.Add(200*time.Millisecond)
		d.fresh(1)
		d.up()
		d.want("200ms connect 1", "200ms failed over 1 to 1", "200ms send ECHO c")
	})
	t.Run("pauses double, until time is over", func(t *testing.T) {
		d := connected(t, UserConfig{})
		d.down("lost")
		d.selected()
		for d.u.State() == FailingOver {
			d.fresh()
			next, ok := d.u.NextDeadline()
			if !ok {
				t.Fatal("no deadline")
			}
			d.until(next.Sub(epoch))
		}
		selections := 0
		for _, line := range d.log {
			if strings.HasSuffix(line, "select fresh") {
				selections++
			}
		}
		if selections < 10 || selections > 20 {
			t.Errorf("%d fresh selections in 30 s, want 10 to 20", selections)
		}
		var f *rserpool.FailoverError
		if !errors.As(d.u.Err(), &f) || f.After != 30*time.Second || f.Cause == nil {
			t.Errorf("error %v, want one after 30 s", d.u.Err())
		}
	})
	t.Run("an element that fails at once does not stop the clock", func(t *testing.T) {
		d := connected(t, UserConfig{FailoverTime: 5 * time.Second})
		d.until(4 * time.Second) // steady
		d.down("lost")
		d.until(8 * time.Second)
		d.selected(2)
		d.up()
		d.until(9*time.Second + time.Millisecond)
		d.down("again")
		d.until(10 * time.Second)
		if d.u.State() != Ended {
			t.Errorf("state %d, want Ended", d.u.State())
		}
	})
	t.Run("shutdown is a failure that is not reported", func(t *testing.T) {
		d := connected(t, UserConfig{})
		d.data("heard")
		d.u.SendFailed(d.now, d.conn, errors.New("not sent"))
		d.shutdown()
		d.want("0s failing 1: shutdown", "0s select -1")
	})
	t.Run("shutdown is the end", func(t *testing.T) {
		d := connected(t, UserConfig{EndOnShutdown: true})
		d.data("last")
		d.shutdown()
		d.want("0s ended: EOF")
		if m, ok := d.u.Receive(d.now); !ok || string(m.Data) != "last" || !errors.Is(d.u.Err(), io.EOF) {
			t.Errorf("Receive %q, %v, error %v; want the message, then EOF", m.Data, ok, d.u.Err())
		}
	})
	t.Run("not wanted", func(t *testing.T) {
		d := connected(t, UserConfig{NoFailover: true})
		d.down("lost")
		d.want("0s failing 1: lost", "0s report 1", "0s ended: failover")
	})
	t.Run("elements that end each association at once", func(t *testing.T) {
		d := connected(t, UserConfig{FailoverTime: time.Hour})
		for range 1000 {
			d.data("one line")
			d.shutdown()
			next, ok := d.u.NextDeadline()
			if ok && !d.u.search.retryAt.IsZero() {
				d.until(next.Sub(epoch))
			}
			d.fresh(2, 3)
			d.up()
			d.log = nil
		}
		if got := d.now.Sub(epoch); got < 40*time.Minute {
			t.Errorf("1000 failovers within %v, want pauses of 3 s", got)
		}
	})
	t.Run("elements that are full", func(t *testing.T) {
		d := connected(t, UserConfig{Unacked: Resend})
		d.data("answer")
		d.cookie("c")
		d.mustSend("a")
		d.log = nil
		d.down("lost")
		d.selected(2)
		d.accept()
		d.abort()
		d.selected(3)
		d.accept()
		d.shutdown()
		d.selected()
		d.fresh()
		d.want("0s failing 1: lost", "0s report 1",
			"0s select -1", "0s connect 2", "0s send ECHO c", "0s send a", "0s busy 2", "0s try failed 2: it takes no session now, because it is full, leaves the pool, or has sessions in TLS only: the peer has aborted the association",
			"0s select -1 -2", "0s connect 3", "0s send ECHO c", "0s send a", "0s busy 3", "0s try failed 3: it takes no session now, because it is full, leaves the pool, or has sessions in TLS only: shutdown",
			"0s select -1 -2 -3", "0s select fresh -1 -2 -3")
		if d.u.search.retryAt.IsZero() {
			t.Error("no pause after all have refused")
		}
		d.until(200 * time.Millisecond)
		d.fresh(3)
		d.accept()
		d.log = nil
		d.until(310 * time.Millisecond)
		if len(d.log) != 1 || !strings.HasSuffix(d.log[0], "failed over 1 to 3") {
			t.Errorf("log %q, want the failover from 1 to 3 after 100 ms", d.log)
		}
	})
	t.Run("a full one at first", func(t *testing.T) {
		d := newDriver(t, UserConfig{})
		d.selected(1)
		d.accept()
		d.abort()
		d.selected(2)
		d.accept()
		d.data("hello")
		d.want("0s select", "0s connect 1", "0s connected 1", "0s busy 1", "0s failing 1: it takes no session now, because it is full, leaves the pool, or has sessions in TLS only: the peer has aborted the association",
			"0s select -1", "0s connect 2", "0s failed over 1 to 2")
	})
	t.Run("this machine has lost its address", func(t *testing.T) {
		d := connected(t, UserConfig{})
		d.cookie("c")
		d.until(time.Second)
		d.log = nil
		d.u.Down(d.now, d.conn, false, ErrHere)
		d.collect()
		d.up()
		d.want("1s failing 1: the association has ended because of this machine", "1s connect 1", "1s failed over 1 to 1", "1s send ECHO c")
	})
	t.Run("this machine cannot dial", func(t *testing.T) {
		d := newDriver(t, UserConfig{})
		d.selected(1)
		d.u.Down(d.now, d.conn, false, ErrHere)
		d.collect()
		d.want("0s select", "0s connect 1", "0s try failed 1: the association has ended because of this machine", "0s select -1")
	})
	t.Run("one that dies at once is reported", func(t *testing.T) {
		d := connected(t, UserConfig{})
		d.down("lost")
		d.selected(2)
		d.accept()
		d.log = nil
		d.down("lost")
		d.want("0s try failed 2: lost", "0s report 2", "0s select -1 -2")
	})
	t.Run("no control channel", func(t *testing.T) {
		d := connected(t, UserConfig{Card: &asap.BusinessCard{Handle: "mine"}})
		d.cookie("c")
		d.log = nil
		d.down("lost")
		e := element(2)
		e.UserTransport.Use = rserpool.DataOnly
		d.u.Selected(d.now, d.sel, []rserpool.PoolElement{e}, false, nil)
		d.collect()
		d.up()
		d.want("0s failing 1: lost", "0s report 1", "0s select -1", "0s connect 2", "0s failed over 1 to 2")
	})
	t.Run("late events of the former association", func(t *testing.T) {
		d := connected(t, UserConfig{})
		old := d.conn
		d.cookie("c")
		d.mustSend("x")
		d.u.Fail(d.now, errors.New("wrong answer"))
		d.collect()
		d.selected(2)
		d.log = nil
		d.u.Received(d.now, old, Message{Data: []byte("late")})
		d.u.Received(d.now, old, Message{Data: []byte("late"), PPID: asap.PPID})
		d.u.Down(d.now, old, false, errors.New("late"))
		d.u.SendFailed(d.now, old, errors.New("late"))
		d.u.Up(d.now, old)
		d.up()
		if d.u.Readable() || string(d.u.Cookie()) != "c" {
			t.Error("a late message has had an effect")
		}
		d.want("0s abort", "0s failed over 1 to 2", "0s send ECHO c")
	})
}

func TestDetection(t *testing.T) {
	t.Run("hang", func(t *testing.T) {
		d := connected(t, UserConfig{AnswerTimeout: 300 * time.Millisecond})
		d.until(time.Second)
		d.mustSend("a")
		d.until(1200 * time.Millisecond)
		d.mustSend("b")
		d.data("answer")
		d.until(2 * time.Second)
		d.mustSend("c")
		d.cookie("no answer")
		d.until(3 * time.Second)
		d.want("1s send a", "1.2s send b", "2s send c", "2s cookie of 1", "2.3s abort",
			"2.3s failing 1: the element has sent no message for 300ms after one was sent to it", "2.3s report 1", "2.3s select -1")
	})
	for name, unacked := range map[string]Unacked{"resend": Resend, "ask": AskApp} {
		t.Run("hang after the first answer, "+name, func(t *testing.T) {
			d := connected(t, UserConfig{AnswerTimeout: 300 * time.Millisecond, Unacked: unacked})
			d.mustSend("a", "b", "c")
			d.until(200 * time.Millisecond)
			d.answered(1)
			d.until(400 * time.Millisecond)
			d.cookie("no answer")
			d.until(time.Second)
			d.want("0s send a", "0s send b", "0s send c", "400ms cookie of 1", "500ms abort",
				"500ms failing 1: the element has sent no message for 300ms; answers that it owes: 2", "500ms report 1", "500ms select -1")
		})
	}
	for name, unacked := range map[string]Unacked{"resend": Resend, "ask": AskApp} {
		t.Run("no time passes when all is answered, "+name, func(t *testing.T) {
			d := connected(t, UserConfig{AnswerTimeout: 300 * time.Millisecond, Unacked: unacked})
			d.mustSend("a", "b")
			d.answered(0) // acknowledged later, together
			d.until(200 * time.Millisecond)
			d.answered(0)
			d.until(time.Second)
			d.data("news")
			d.mustSend("c") // it owes one answer: news before a message are none
			d.until(1100 * time.Millisecond)
			d.u.Ack(1) // leaves b and c
			_, _ = d.u.Receive(d.now)
			_, _ = d.u.Receive(d.now)
			d.until(1200 * time.Millisecond)
			d.answered(2)
			d.until(time.Minute)
			d.want("0s send a", "0s send b", "1s send c")
		})
		t.Run("a stream has no count of answers, "+name, func(t *testing.T) {
			d := connected(t, UserConfig{AnswerTimeout: 300 * time.Millisecond, Unacked: unacked})
			d.u.Stream()
			d.mustSend("a", "b", "c")
			d.until(200 * time.Millisecond)
			d.answered(0)
			d.until(time.Second)
			d.data("in part")
			d.mustSend("d") // not answered by what came before
			d.until(1100 * time.Millisecond)
			_, _ = d.u.Receive(d.now)
			_, _ = d.u.Receive(d.now)
			d.until(2 * time.Second)
			d.want("0s send a", "0s send b", "0s send c", "1s send d", "1.3s abort",
				"1.3s failing 1: the element has sent no message for 300ms after one was sent to it", "1.3s report 1", "1.3s select -1")
		})
	}
	t.Run("no time passes when all is acknowledged", func(t *testing.T) {
		d := connected(t, UserConfig{AnswerTimeout: 300 * time.Millisecond, Unacked: Resend})
		d.mustSend("a", "b")
		d.answered(2) // in one message
		d.until(time.Second)
		d.mustSend("c")
		d.until(1200 * time.Millisecond)
		d.answered(1)
		d.until(time.Minute)
		d.want("0s send a", "0s send b", "1s send c")
	})
	t.Run("no time passes while the application works on an answer", func(t *testing.T) {
		d := connected(t, UserConfig{AnswerTimeout: 300 * time.Millisecond, Unacked: Resend})
		d.mustSend("a", "b", "c")
		d.data("answer")
		d.data("answer")
		d.until(time.Second)
		_, _ = d.u.Receive(d.now)
		d.until(2 * time.Second)
		_, _ = d.u.Receive(d.now)
		d.until(3 * time.Second)
		d.u.Ack(2)
		d.until(4 * time.Second)
		d.want("0s send a", "0s send b", "0s send c")
		d.mustSend("d") // the time begins with a message, and when the application waits
		d.until(4200 * time.Millisecond)
		d.answered(1)
		d.until(5 * time.Second)
		d.want("4s send d", "4.5s abort", "4.5s failing 1: the element has sent no message for 300ms; answers that it owes: 1",
			"4.5s report 1", "4.5s select -1")
	})
	t.Run("the application's word", func(t *testing.T) {
		d := connected(t, UserConfig{})
		d.u.Fail(d.now, errors.New("bad"))
		d.collect()
		d.want("0s abort", "0s failing 1: bad", "0s select -1") // not reported: nothing was sent to it
		d.selected(2)
		d.up()
		d.mustSend("a")
		d.log = nil
		d.u.Fail(d.now, errors.New("bad"))
		d.collect()
		d.want("0s abort", "0s failing 2: bad", "0s report 2", "0s select -1 -2")
	})
	t.Run("failed delivery, association alive", func(t *testing.T) {
		d := connected(t, UserConfig{})
		d.u.SendFailed(d.now, d.conn, errors.New("no buffer"))
		d.until(time.Second)
		d.want("100ms abort", "100ms failing 1: no buffer", "100ms report 1", "100ms select -1")
	})
	t.Run("no time passes while the application does not read", func(t *testing.T) {
		d := connected(t, UserConfig{AnswerTimeout: 300 * time.Millisecond, MaxReceive: 100})
		d.data(strings.Repeat("x", 100))
		d.mustSend("a")
		d.until(time.Second)
		_, _ = d.u.Receive(d.now)
		d.collect()
		d.until(1250 * time.Millisecond)
		d.want("0s pause", "0s send a", "1s resume")
		d.until(2 * time.Second)
		if d.u.State() != FailingOver {
			t.Error("no failure after the time")
		}
	})
}

func TestCloseInEachState(t *testing.T) {
	tests := []struct {
		name string
		play func(d *driver)
		want []string
	}{
		{"selecting", func(d *driver) {}, []string{"0s ended: <nil>"}},
		{"connecting", func(d *driver) { d.selected(1) }, []string{"0s abort", "0s ended: <nil>"}},
		{"connected", func(d *driver) { d.selected(1); d.up() }, []string{"0s shutdown"}},
		{"failing over", func(d *driver) { d.selected(1); d.up(); d.down("lost") }, []string{"0s ended: <nil>"}},
		{"pausing", func(d *driver) { d.selected(1); d.up(); d.down("lost"); d.selected(); d.fresh() }, []string{"0s ended: <nil>"}},
		{"failing over, connecting", func(d *driver) { d.selected(1); d.up(); d.down("lost"); d.selected(2) }, []string{"0s abort", "0s ended: <nil>"}},
		{"closing", func(d *driver) { d.selected(1); d.up(); d.u.Close(d.now); d.collect() }, nil},
		{"reading paused", func(d *driver) { d.selected(1); d.up(); d.data(strings.Repeat("x", 200)) }, []string{"0s resume", "0s shutdown"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := newDriver(t, UserConfig{MaxReceive: 100})
			tt.play(d)
			d.log = nil
			d.u.Close(d.now)
			d.collect()
			d.want(tt.want...)
			if err := d.send("x"); !errors.Is(err, rserpool.ErrClosed) {
				t.Errorf("Send after Close: %v, want ErrClosed", err)
			}
			d.selected(3) // late
			d.until(time.Hour)
			if d.u.State() != Ended {
				t.Errorf("state %d after an hour, want Ended", d.u.State())
			}
		})
	}
	t.Run("what was sent leaves first", func(t *testing.T) {
		d := connected(t, UserConfig{})
		d.full = true
		d.mustSend("a")
		d.u.Close(d.now)
		d.collect()
		d.full = false
		d.collect()
		d.down("closed here")
		d.want("0s send a", "0s shutdown", "0s ended: <nil>")
	})
	t.Run("the element does not take it", func(t *testing.T) {
		d := connected(t, UserConfig{})
		d.full = true
		d.mustSend("a")
		d.u.Close(d.now)
		d.until(time.Minute)
		d.want("2s abort", "2s ended: <nil>")
	})
}

func TestControlChannel(t *testing.T) {
	d := connected(t, UserConfig{})
	d.u.Received(d.now, d.conn, Message{Data: []byte{0x7f, 0, 0, 4}, PPID: asap.PPID})
	d.u.Received(d.now, d.conn, Message{Data: []byte{0x0b, 0, 0, 9, 1}, PPID: asap.PPID})
	d.collect()
	d.want("0s send ERROR unrecognized message", "0s send ERROR invalid values")
	d.control(&asap.Error{Causes: []rserpool.Cause{{Code: rserpool.CauseInvalidValues}}})
	d.control(&asap.CookieEcho{Cookie: []byte("mine")})
	d.u.Received(d.now, d.conn, Message{Data: []byte("x"), PPID: enrpPPID})
	d.want()
	d.cookie("")
	d.down("lost")
	d.selected(2)
	d.up()
	d.want("0s cookie of 1", "0s failing 1: lost", "0s report 1", "0s select -1", "0s connect 2", "0s failed over 1 to 2", "0s send ECHO ")
}

func TestBounds(t *testing.T) {
	t.Run("receive queue", func(t *testing.T) {
		d := connected(t, UserConfig{MaxReceive: 1000})
		for range 8 { // of 164 with their cost
			d.data(strings.Repeat("x", 100))
		}
		d.want("0s pause")
		for range 4 {
			_, _ = d.u.Receive(d.now)
			d.collect()
		}
		d.want()
		_, _ = d.u.Receive(d.now)
		d.collect()
		d.want("0s resume")
	})
	t.Run("full across a failover", func(t *testing.T) {
		d := connected(t, UserConfig{MaxReceive: 10})
		d.data("more than ten")
		d.down("lost")
		d.selected(2)
		d.up()
		d.want("0s pause", "0s failing 1: lost", "0s report 1", "0s select -1", "0s connect 2", "0s pause", "0s failed over 1 to 2")
	})
	t.Run("messages of elements that have failed", func(t *testing.T) {
		d := connected(t, UserConfig{MaxReceive: 10})
		d.data("one")
		d.data("two")
		d.down("lost")
		d.selected(2)
		d.up()
		d.data("three")
		_, _ = d.u.Receive(d.now)
		d.u.Skip(d.now)
		if m, ok := d.u.Receive(d.now); !ok || string(m.Data) != "three" {
			t.Errorf("Receive after Skip: %q, %v; want three", m.Data, ok)
		}
	})
	t.Run("unacknowledged messages", func(t *testing.T) {
		d := connected(t, UserConfig{Unacked: Resend, MaxUnacked: 200})
		d.mustSend("a", "b", "c")
		if err := d.send("d"); !errors.Is(err, ErrWait) {
			t.Errorf("got %v, want ErrWait", err)
		}
		d.u.Ack(1)
		d.mustSend("d")
		d.u.Ack(1000)
		d.mustSend(strings.Repeat("x", 1000)) // one is always allowed
	})
	t.Run("elements of a card", func(t *testing.T) {
		d := connected(t, UserConfig{})
		var ids []rserpool.PEID
		for id := range rserpool.PEID(500) {
			ids = append(ids, id+2)
		}
		d.card(ids...)
		if len(d.u.will) != maxCardElements {
			t.Errorf("%d elements kept, want %d", len(d.u.will), maxCardElements)
		}
	})
	t.Run("replies", func(t *testing.T) {
		d := connected(t, UserConfig{})
		d.full = true
		for range 100 {
			d.u.Received(d.now, d.conn, Message{Data: []byte{0x0b, 0, 0, 9, 1}, PPID: asap.PPID})
		}
		if d.u.replies.n != maxReplies {
			t.Errorf("%d replies wait, want %d", d.u.replies.n, maxReplies)
		}
	})
	t.Run("elements left out", func(t *testing.T) {
		d := connected(t, UserConfig{FailoverTime: time.Hour})
		d.down("lost")
		for id := rserpool.PEID(2); id < 1000 && d.u.search.retryAt.IsZero(); id++ {
			d.selected(id)
			d.down("refused")
		}
		if n := len(d.u.search.leftOut); n != maxLeftOut {
			t.Errorf("%d elements are left out at the pause, want %d", n, maxLeftOut)
		}
	})
	t.Run("messages", func(t *testing.T) {
		for _, m := range []Message{{}, {Data: make([]byte, MaxMessage+1)}, {Data: []byte("x"), PPID: asap.PPID}, {Data: []byte("x"), PPID: 12}} {
			d := connected(t, UserConfig{})
			if err := d.u.Send(m); err == nil || errors.Is(err, ErrWait) {
				t.Errorf("Send(%d bytes, ppid %d): got %v, want an error", len(m.Data), m.PPID, err)
			}
		}
	})
}

// TestRefused: a message that the association does not take is dropped, no other one.
func TestRefused(t *testing.T) {
	d := connected(t, UserConfig{Unacked: Resend})
	d.mustSend("a", "b")
	d.full = true
	d.mustSend("bad")
	d.u.Refused()
	d.full = false
	d.mustSend("c")
	d.down("lost")
	d.selected(2)
	d.log = nil
	d.up()
	d.want("0s failed over 1 to 2", "0s send a", "0s send b", "0s send c")
}

func TestAbandon(t *testing.T) {
	d := newDriver(t, UserConfig{})
	d.selected(1)
	d.u.Abandon(d.now, io.ErrUnexpectedEOF)
	d.collect()
	d.want("0s select", "0s connect 1", "0s abort", "0s ended: failover")
	if !errors.Is(d.u.Err(), io.ErrUnexpectedEOF) {
		t.Errorf("error %v, want the reason", d.u.Err())
	}
}

func TestRecommend(t *testing.T) {
	d := connected(t, UserConfig{})
	if d.u.Recommend(elements(1)) == nil {
		t.Error("a user that is no element may recommend elements")
	}
	d = connected(t, UserConfig{Card: &asap.BusinessCard{Handle: "mine"}})
	if err := d.u.Recommend(elements(8, 9)); err != nil {
		t.Error(err)
	}
	d.collect()
	if d.u.Recommend([]rserpool.PoolElement{{ID: 1}}) == nil {
		t.Error("an element without a transport can be recommended")
	}
	d.want("0s send CARD mine e e")
}

// TestCardOfAnotherPool: such a card goes to the program. It says nothing of where the session
// can go on, and nothing is resolved for it.
func TestCardOfAnotherPool(t *testing.T) {
	d := connected(t, UserConfig{})
	d.control(&asap.BusinessCard{Handle: "other", Elements: elements(4, 5)})
	d.until(time.Minute)
	d.want("0s card of 1")
	d.down("lost")
	d.want("1m0s failing 1: lost", "1m0s report 1", "1m0s select -1")
}

// TestAckBeforeSent: a message that waits for room is sent, whatever Ack says. What Ack says of it
// counts from then on.
func TestAckBeforeSent(t *testing.T) {
	t.Run("nothing is kept", func(t *testing.T) {
		d := connected(t, UserConfig{})
		d.full = true
		d.mustSend("a")
		d.u.Ack(1)
		d.full = false
		d.collect()
		d.want("0s send a")
	})
	t.Run("sent once, and no answer owed", func(t *testing.T) {
		d := connected(t, UserConfig{Unacked: Resend, AnswerTimeout: time.Second})
		d.mustSend("a")
		d.full = true
		d.mustSend("b")
		d.u.Ack(2)
		d.u.Ack(1000) // of nothing
		d.full = false
		d.collect()
		d.until(time.Minute)
		d.mustSend("c") // not acknowledged by the 1000
		d.want("0s send a", "0s send b", "1m0s send c")
		d.down("lost")
		d.selected(2)
		d.log = nil
		d.up()
		d.want("1m0s failed over 1 to 2", "1m0s send c")
	})
	t.Run("the element fails before", func(t *testing.T) {
		d := connected(t, UserConfig{Unacked: Resend})
		d.mustSend("a", "b")
		d.full = true
		d.mustSend("c")
		d.down("lost")
		d.u.Ack(3) // a and b were sent to the former element
		d.full = false
		d.selected(2)
		d.log = nil
		d.up()
		d.want("0s failed over 1 to 2", "0s send c")
		if left := d.u.Unacked(); len(left) != 0 {
			t.Errorf("unacknowledged: %v, want none", left)
		}
	})
	t.Run("while messages are sent again", func(t *testing.T) {
		d := connected(t, UserConfig{Unacked: Resend})
		d.mustSend("a", "b", "c")
		d.full = true
		d.down("lost")
		d.selected(2)
		d.up()
		d.u.Sent(d.now) // a
		d.u.Ack(2)
		d.full, d.log = false, nil
		d.collect()
		d.want("0s send c")
	})
	t.Run("the application's own", func(t *testing.T) {
		d := connected(t, UserConfig{Unacked: AskApp})
		d.mustSend("a")
		d.down("lost")
		d.selected(2)
		d.up()
		d.full, d.log = true, nil
		d.u.Answer(d.ask, []Message{{Data: []byte("where are we?")}})
		d.u.Ack(1)
		d.full = false
		d.collect()
		d.want("0s send where are we?")
	})
	t.Run("not taken by the association", func(t *testing.T) {
		d := connected(t, UserConfig{Unacked: Resend})
		d.full = true
		d.mustSend("a")
		d.u.Ack(1)
		d.u.Refused()
		d.full = false
		d.mustSend("b")
		d.want("0s send b")
		if left := d.u.Unacked(); len(left) != 1 || string(left[0].Data) != "b" {
			t.Errorf("unacknowledged: %v, want b", left)
		}
	})
}
