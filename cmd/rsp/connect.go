package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rserpool/coredns-rserpool/asap/pu"
	"github.com/rserpool/coredns-rserpool/rserpool"
	"github.com/spf13/cobra"
)

const connectHelp = `Connect to an element of a pool, send what is typed, and print what the element sends.

The connection is a session (RFC 5352): if the element fails, rsp reports it to a
registrar, and the session goes on with another element of the pool. The next element
gets the state cookie of the former one, if the former one has sent one. rsp says on
standard error to which element it is connected, why it fails over, and to which one.

The pool's elements serve SCTP. Each line becomes one message, with its newline, and each
message from the element is printed as it is. On a terminal, control characters in
messages are printed as ?.

If the pool's elements serve TCP, the session is a stream of bytes, and rsp copies lines
and answers. There are no cookies over TCP, and rsp notices a failure only if the
connection breaks: if the server closes it, rsp ends, even if the server was killed,
because its kernel closes the connection then. rsp finds out whether the pool is one of
TCP. --tcp demands it.

A line that the former element has not answered is lost in a failover. Over SCTP in UDP,
that includes the line by which rsp notices that an element was killed. With --resend, rsp
sends such lines again: to an element that sends one answer for each line. An element may
then process a line twice.

At the end of the input (Ctrl-D, or the end of a file), rsp waits until the element has
sent nothing for the time of --wait, and ends. If a failover is in progress then, rsp first
waits for its end, up to --failover-time. Ctrl-C ends rsp at once, and so does the end of
the reader of its output, such as head.`

// elementsHelp belongs behind tlsHelp.
const elementsHelp = `
  --tls-elements IDENTITY accepts elements whose certificate names no pool, such as those
  that a registrar's option allow lets in: rsp does not know the registrar's rights. *
  stands for any octets but slashes, and --tls-elements can be repeated. Streams over TCP
  are not in TLS.`

type connectFlags struct {
	userFlags
	element, ppid              string
	tcp, resend, endOnShutdown bool
	wait                       time.Duration
	answer, failover           time.Duration
}

func newConnect() *cobra.Command {
	f := new(connectFlags)
	cmd := &cobra.Command{
		Use:   "connect POOL",
		Short: "talk to an element of a pool, by a session that fails over",
		Long: connectHelp + "\n\n" + registrarHelp + elementsHelp + "\n\n" + exitHelp + `
  SIGINT, SIGTERM, SIGQUIT and SIGHUP end rsp, which a shell shows as 128 and the number of the signal`,
		Example: `  rsp connect EchoPool
  echo hello | rsp connect --registrar 192.0.2.1 EchoPool
  rsp connect --end-on-shutdown DaytimePool
  printf 'GET / HTTP/1.0\r\n\r\n' | rsp connect --tcp web`,
		Args:              namedArgs("POOL"),
		RunE:              func(cmd *cobra.Command, args []string) error { return f.run(cmd, rserpool.PoolHandle(args[0])) },
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	fl := cmd.Flags()
	fl.StringVar(&f.element, "element", "", "identifier of the element to try first, 8 hexadecimal `DIGITS` (default: as the pool's policy selects)")
	fl.StringVar(&f.ppid, "ppid", "0", "payload protocol identifier of the messages, a `NUMBER`; 0x for hexadecimal")
	fl.BoolVar(&f.tcp, "tcp", false, "the elements must serve TCP")
	fl.BoolVar(&f.resend, "resend", false, "send unanswered lines again after a failover")
	fl.BoolVar(&f.endOnShutdown, "end-on-shutdown", false, "end when the element ends the session in good order, in place of a failover")
	fl.DurationVar(&f.wait, "wait", time.Second, "end when the element has sent nothing for so long after the end of the input")
	fl.DurationVar(&f.answer, "answer-timeout", 0, "the element has failed if it sends nothing for so long after a line, or, with --resend, after an answer while other lines have none; 0: only if the association is lost")
	fl.DurationVar(&f.failover, "failover-time", 30*time.Second, "time after which a failover is given up")
	f.userFlags.add(cmd)
	f.tls.addElements(cmd)
	noFiles(cmd, "element", "ppid", "wait", "answer-timeout", "failover-time")
	return cmd
}

// conversation is a session with a pool, by messages or by a stream.
type conversation interface {
	send(ctx context.Context, line []byte) error
	receive(ctx context.Context) ([]byte, error)
	// finish says that nothing more is sent.
	finish() error
	close() error
	// searching reports that the element has failed, and no other one serves yet.
	searching() bool
}

func (f *connectFlags) run(cmd *cobra.Command, pool rserpool.PoolHandle) error {
	if err := f.check(cmd); err != nil {
		return err
	}
	u, err := f.open(cmd)
	if err != nil {
		return err
	}
	defer u.Close()
	signals, stop := take(endAlone, endAlone)
	defer stop()
	ctx, cancel := whileRead(cmd.Context(), cmd.OutOrStdout())
	defer cancel(nil)
	go func() {
		select {
		case sig := <-signals:
			cancel(signaled(sig.(syscall.Signal)))
		case <-ctx.Done():
		}
	}()
	err = f.talk(ctx, cmd, u, pool)
	var by *statusError
	if errors.As(context.Cause(ctx), &by) {
		return by
	}
	if err != nil {
		err = cmp.Or(whyEnded(ctx), err)
	}
	return err
}

// check refuses values that have no sense.
func (f *connectFlags) check(cmd *cobra.Command) error {
	if f.wait < 0 || f.answer < 0 || f.failover <= 0 {
		return usage(cmd, errors.New("--wait and --answer-timeout must not be negative, --failover-time must be positive"))
	}
	if f.tcp {
		for _, flag := range []string{"ppid", "resend", "answer-timeout", "end-on-shutdown", "element", "tls-elements"} {
			if cmd.Flags().Changed(flag) {
				return usage(cmd, fmt.Errorf("--%s: no effect with --tcp", flag))
			}
		}
	}
	_, err := f.sessionConfig("")
	if err != nil {
		return usage(cmd, err)
	}
	return nil
}

// sessionConfig reads the flags that describe the session.
func (f *connectFlags) sessionConfig(pool rserpool.PoolHandle) (pu.SessionConfig, error) {
	cfg := pu.SessionConfig{Pool: pool, AnswerTimeout: f.answer, FailoverTime: f.failover, EndOnShutdown: f.endOnShutdown}
	if f.resend {
		cfg.Unacked = pu.Resend
	}
	if f.element != "" {
		id, err := parseID(f.element)
		if err != nil {
			return cfg, fmt.Errorf("--element: %w", err)
		}
		cfg.Element = id
	}
	ppid, err := strconv.ParseUint(f.ppid, 0, 32)
	if err != nil || ppid == 11 || ppid == 12 {
		return cfg, fmt.Errorf("--ppid: %q is not a number of 32 bits other than 11 and 12, which belong to RSerPool", f.ppid)
	}
	cfg.PPID = uint32(ppid)
	return cfg, nil
}

// dial begins the conversation. A failover that is complete counts as heard.
func (f *connectFlags) dial(ctx context.Context, log *logger, u *pu.User, pool rserpool.PoolHandle, heard chan<- struct{}) (conversation, error) {
	limited, cancel := f.limit(ctx)
	defer cancel()
	r, err := u.Resolve(limited, pool, 1)
	if err != nil {
		return nil, err
	}
	switch t := r.Elements[0].UserTransport.Type; {
	case t == rserpool.TCP:
		return f.dialStream(ctx, log, u, pool, heard)
	case t != rserpool.SCTP || f.tcp:
		return nil, fmt.Errorf("pool %q: its elements serve %v, and rsp connect talks SCTP and TCP (with --tcp only TCP)", string(pool), t)
	}
	cfg, err := f.sessionConfig(pool)
	if err != nil {
		return nil, err
	}
	m := &messages{ack: f.resend}
	cfg.Notify = func(ev pu.SessionEvent) {
		switch ev.Type {
		case pu.ElementFailing:
			m.failing.Store(true)
		case pu.FailedOver:
			m.failing.Store(false)
			note(heard)
		default:
		}
		switch ev.Type {
		case pu.SessionConnected, pu.ElementFailing, pu.ElementTryFailed, pu.FailedOver:
			log.log(normal, "%v", ev)
		case pu.CookieReceived, pu.CardReceived:
			log.log(verbose, "%v", ev)
		case pu.SessionEnded: // Receive tells
		}
	}
	m.s, err = u.DialSession(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return m, nil
}

// note leaves a value in a channel for one.
func note(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// messages is a conversation by a session.
type messages struct {
	s       *pu.Session
	ack     bool        // each answer acknowledges a line
	failing atomic.Bool // as the events say
}

func (m *messages) send(ctx context.Context, line []byte) error { return m.s.Send(ctx, line) }
func (m *messages) finish() error                               { return nil }
func (m *messages) close() error                                { return m.s.Close() }
func (m *messages) searching() bool                             { return m.failing.Load() }

func (m *messages) receive(ctx context.Context) ([]byte, error) {
	answer, err := m.s.Receive(ctx)
	if err == nil && m.ack {
		m.s.Ack(1)
	}
	return answer.Data, err
}

// talk copies the input to the element, and what the element sends to the output.
func (f *connectFlags) talk(ctx context.Context, cmd *cobra.Command, u *pu.User, pool rserpool.PoolHandle) error {
	heard, failed := make(chan struct{}, 1), make(chan error, 1)
	c, err := f.dial(ctx, f.logger(cmd.ErrOrStderr()), u, pool, heard)
	if err != nil {
		return err
	}
	defer c.close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lines := readLines(ctx, cmd.InOrStdin())
	go func() { failed <- printAnswers(ctx, c, cmd.OutOrStdout(), heard) }()
	atEnd := false // of the input
	var quiet <-chan time.Time
	for {
		select {
		case line, ok := <-lines:
			if ok {
				err = c.send(ctx, line)
			} else {
				lines, atEnd, quiet = nil, true, time.After(f.wait)
				err = c.finish()
			}
			if err != nil {
				return ended(err)
			}
		case <-heard:
			if atEnd {
				quiet = time.After(f.wait)
			}
		case <-quiet:
			if !c.searching() {
				return nil
			}
			quiet = nil // until the failover is complete, or has failed
		case err := <-failed:
			return ended(err)
		}
	}
}

// ended makes the error of rsp of that of a conversation, of which io.EOF is a good end.
func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// printAnswers prints what the element sends, until the conversation ends.
func printAnswers(ctx context.Context, c conversation, out io.Writer, heard chan<- struct{}) error {
	onTerminal := false
	if file, ok := fileOf(out); ok {
		onTerminal = isTerminal(file)
	}
	for {
		data, err := c.receive(ctx)
		if err != nil {
			return err
		}
		note(heard)
		if onTerminal {
			data = []byte(shownLines(string(data)))
		}
		if _, err := out.Write(data); err != nil {
			return err
		}
	}
}

// shownLines replaces control characters, except those that end lines and the tabulator.
func shownLines(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return r
		case r < ' ' || r >= 0x7f && r < 0xa0:
			return '?'
		}
		return r
	}, s)
}

// maxLine is the longest message. A longer line becomes several messages.
const maxLine = 32 << 10

// readLines reads lines, with their newlines, until the end of the input.
func readLines(ctx context.Context, in io.Reader) <-chan []byte {
	lines := make(chan []byte)
	go func() {
		defer close(lines)
		r := bufio.NewReaderSize(in, maxLine)
		for {
			line, err := r.ReadSlice('\n')
			if len(line) > 0 {
				select {
				case lines <- bytes.Clone(line):
				case <-ctx.Done():
					return
				}
			}
			if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
				return
			}
		}
	}()
	return lines
}
