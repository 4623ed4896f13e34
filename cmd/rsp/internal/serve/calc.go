package serve

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/services"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// CalcConfig configures a [Calc]. All fields must be positive.
type CalcConfig struct {
	Capacity    float64       // calculations a second, for all jobs together
	MaxJobs     int           // at a time; further requests are refused
	CookieTime  time.Duration // a job's state is handed out so often,
	CookieCalcs float64       // and after so many calculations
	// KeepAlive is the time between two keep-alives to a user with a job, and the time
	// that it has to answer.
	KeepAlive time.Duration
}

// Calc models a computer: a job is a number of calculations, which take their time. Each
// session has one job at a time. The job's state goes to the user as a cookie.
type Calc struct {
	cfg CalcConfig

	mu      sync.Mutex
	machine *services.Calculator
	changed chan struct{} // closed when a job ends: the others become faster
}

// NewCalc makes a Calc.
func NewCalc(cfg CalcConfig) *Calc {
	return &Calc{
		cfg:     cfg,
		machine: services.NewCalculator(cfg.Capacity, cfg.MaxJobs, cfg.CookieTime, cfg.CookieCalcs),
		changed: make(chan struct{}),
	}
}

// calcSession is a session with its job.
type calcSession struct {
	*Calc
	s        Session
	job      *services.CalcJob // nil without one
	id       uint32
	heard    time.Time // of the user
	asked    time.Time // when a keep-alive was sent, of which nothing was heard; zero: none
	nextLook time.Time
}

// Serve serves a session.
func (c *Calc) Serve(ctx context.Context, s Session) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	j := &calcSession{Calc: c, s: s, heard: time.Now()}
	defer j.stop()
	messages, failed := receive(ctx, s)
	came := s.CookieCame()
	for {
		var timer, faster <-chan time.Time
		var changed <-chan struct{}
		if j.job != nil {
			faster = time.After(time.Until(j.nextLook))
			timer = time.After(time.Until(j.deadline()))
			c.mu.Lock()
			changed = c.changed
			c.mu.Unlock()
		}
		var err error
		select {
		case m := <-messages:
			err = j.onMessage(ctx, m)
		case err = <-failed:
			if ctx.Err() != nil { // the element is about to end: the user goes on elsewhere
				j.handOut()
				return nil
			}
			return end(err)
		case <-came:
			came = nil
			err = j.onEcho(ctx)
		case <-timer:
			err = j.onTimer(ctx)
		case <-faster:
		case <-changed:
		}
		if err == nil && j.job != nil {
			err = j.look(ctx)
		}
		if err != nil {
			return end(err)
		}
	}
}

// receive passes on a session's messages, and the error at its end.
func receive(ctx context.Context, s Session) (<-chan rserpool.Message, <-chan error) {
	messages, failed := make(chan rserpool.Message), make(chan error, 1)
	go func() {
		for {
			m, err := s.Receive(ctx)
			if err != nil {
				failed <- err
				return
			}
			select {
			case messages <- m:
			case <-ctx.Done():
				failed <- ctx.Err()
				return
			}
		}
	}()
	return messages, failed
}

func (j *calcSession) onMessage(ctx context.Context, message rserpool.Message) error {
	m, err := services.ParseCalc(message.Data)
	if err != nil {
		return err
	}
	j.heard, j.asked = time.Now(), time.Time{}
	switch m.Type {
	case services.CalcRequest:
		return j.start(ctx, services.CalcCookie{Job: m.Job, Size: m.Size})
	case services.CalcKeepAlive:
		return j.send(ctx, services.CalcMessage{Type: services.CalcKeepAliveAck, Job: m.Job})
	case services.CalcKeepAliveAck:
		return nil
	default:
		return fmt.Errorf("calc: message of type %d from a user", m.Type)
	}
}

// onEcho goes on with a job that another element has begun.
func (j *calcSession) onEcho(ctx context.Context) error {
	state, ok := j.s.Cookie()
	if !ok || j.job != nil {
		return nil
	}
	job, err := services.ParseCalcCookie(state)
	if err != nil {
		return fmt.Errorf("the user's state: %w", err)
	}
	return j.start(ctx, job)
}

// start accepts a job, or refuses it if the session or the machine has no room for it.
func (j *calcSession) start(ctx context.Context, state services.CalcCookie) error {
	answer := services.CalcMessage{Type: services.CalcReject, Job: state.Job}
	if j.job == nil {
		j.mu.Lock()
		if job, ok := j.machine.Start(time.Now(), state); ok {
			j.job, j.id, answer.Type = job, state.Job, services.CalcAccept
		}
		j.mu.Unlock()
	}
	return j.send(ctx, answer)
}

// look sends what the job's progress asks for.
func (j *calcSession) look(ctx context.Context) error {
	j.mu.Lock()
	state, cookie, next := j.machine.Look(time.Now(), j.job)
	j.mu.Unlock()
	j.nextLook = next
	switch {
	case state.Completed == state.Size:
		j.stop()
		return j.send(ctx, services.CalcMessage{Type: services.CalcComplete, Job: state.Job, Size: state.Size, Completed: state.Completed})
	case cookie:
		return j.s.SetCookie(state.Append(nil))
	}
	return nil
}

// stop ends the job. The other jobs become faster.
func (j *calcSession) stop() {
	if j.job == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.machine.Stop(time.Now(), j.job)
	j.job = nil
	close(j.changed)
	j.changed = make(chan struct{})
}

// handOut gives the user the job's state.
func (j *calcSession) handOut() {
	if j.job == nil {
		return
	}
	j.mu.Lock()
	state, _, _ := j.machine.Look(time.Now(), j.job)
	j.mu.Unlock()
	_ = j.s.SetCookie(state.Append(nil))
}

// deadline is when onTimer has something to do.
func (j *calcSession) deadline() time.Time {
	if !j.asked.IsZero() {
		return j.asked.Add(j.cfg.KeepAlive)
	}
	return j.heard.Add(j.cfg.KeepAlive)
}

var errSilent = errors.New("the user does not answer keep-alives")

// onTimer sends a keep-alive, or ends the session of a user that has not answered one.
func (j *calcSession) onTimer(ctx context.Context) error {
	now := time.Now()
	switch {
	case now.Before(j.deadline()):
		return nil
	case !j.asked.IsZero():
		return errSilent
	}
	j.asked = now
	return j.send(ctx, services.CalcMessage{Type: services.CalcKeepAlive, Job: j.id})
}

func (j *calcSession) send(ctx context.Context, m services.CalcMessage) error {
	return j.s.SendMessage(ctx, rserpool.Message{Data: m.Append(nil), PPID: services.PPIDCalc})
}
