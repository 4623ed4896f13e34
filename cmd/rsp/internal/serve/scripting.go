package serve

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/services"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// The names of the files in a work package's directory, as RSPLIB's scripts expect them.
const (
	inputFile       = "input.data"
	environmentFile = "environment.data"
	outputFile      = "output.data"
	scriptFile      = "ssrun"
)

// exitBroken is the status of a work package that cannot be run.
const exitBroken = 126

// ScriptingConfig configures a [Scripting]. All fields but Log must be set.
type ScriptingConfig struct {
	Name       string // of this machine, for the user
	Dir        string // where the work packages get directories of their own
	MaxJobs    int    // at a time; further sessions are refused
	MaxPackage int64  // the longest upload and the longest result, in bytes
	// KeepAlive is the time between two keep-alives to the user, and the time that the user
	// has to answer, or to send the next part.
	KeepAlive time.Duration
	Run       Sandbox
	Log       func(format string, args ...any)
}

// Scripting runs programs that users send: see rsp serve scripting --help.
type Scripting struct {
	cfg   ScriptingConfig
	slots chan struct{}
	cache environments
}

// NewScripting makes a Scripting.
func NewScripting(cfg ScriptingConfig) *Scripting {
	return &Scripting{
		cfg: cfg, slots: make(chan struct{}, cfg.MaxJobs),
		cache: environments{dir: filepath.Join(cfg.Dir, "environments")},
	}
}

// scriptingSession is a session with its work package.
type scriptingSession struct {
	*Scripting
	s    Session
	dir  string
	hash []byte // of the environment; nil without one
}

// Serve serves a session.
func (c *Scripting) Serve(ctx context.Context, s Session) error {
	j := &scriptingSession{Scripting: c, s: s}
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	default:
		return end(j.send(ctx, services.NewScriptingNotReady(c.cfg.Name)))
	}
	dir, err := os.MkdirTemp(c.cfg.Dir, "work-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	j.dir = dir
	if err := j.send(ctx, services.ScriptingMessage{Type: services.ScriptingReady, Data: []byte(c.cfg.Name)}); err != nil {
		return end(err)
	}
	if err := j.uploads(ctx); err != nil {
		return end(err)
	}
	if err := j.send(ctx, services.NewScriptingStatus(services.ScriptingStatus, 0)); err != nil {
		return end(err)
	}
	status, err := j.work(ctx)
	if err != nil {
		return end(err)
	}
	if err := j.send(ctx, services.NewScriptingStatus(services.ScriptingStatus, status)); err != nil {
		return end(err)
	}
	return end(j.download(ctx))
}

// uploads takes the work package, and the environment if there is one.
func (j *scriptingSession) uploads(ctx context.Context) error {
	if err := j.upload(ctx, inputFile); err != nil || j.hash == nil {
		return err
	}
	answer := services.ScriptingMessage{Type: services.ScriptingEnvironment, Data: j.hash}
	into := filepath.Join(j.dir, environmentFile)
	if j.cache.get(j.hash, into) {
		return j.send(ctx, answer)
	}
	answer.Flags = services.EnvironmentWanted
	if err := j.send(ctx, answer); err != nil {
		return err
	}
	if err := j.upload(ctx, environmentFile); err != nil {
		return err
	}
	return j.cache.put(j.hash, into)
}

// upload writes the parts of an upload to a file.
func (j *scriptingSession) upload(ctx context.Context, name string) error {
	f, err := os.OpenFile(filepath.Join(j.dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	var size int64
	for {
		m, err := j.receive(ctx)
		if err != nil {
			return err
		}
		switch m.Type {
		case services.ScriptingUpload:
			if len(m.Data) == 0 {
				return f.Close()
			}
			if size += int64(len(m.Data)); size > j.cfg.MaxPackage {
				return fmt.Errorf("the user uploads more than %d bytes", j.cfg.MaxPackage)
			}
			if _, err := f.Write(m.Data); err != nil {
				return err
			}
		case services.ScriptingEnvironment:
			j.hash = append([]byte(nil), m.Data...)
		case services.ScriptingKeepAlive, services.ScriptingKeepAliveAck:
			if err := j.answer(ctx, m); err != nil {
				return err
			}
		default:
			return fmt.Errorf("scripting: message of type %d in an upload", m.Type)
		}
	}
}

// receive takes the next message. A user that sends nothing for long has failed.
func (j *scriptingSession) receive(ctx context.Context) (services.ScriptingMessage, error) {
	wait, cancel := context.WithTimeoutCause(ctx, 2*j.cfg.KeepAlive, errSilent)
	defer cancel()
	m, err := j.s.Receive(wait)
	if err != nil {
		if ctx.Err() == nil && wait.Err() != nil {
			err = context.Cause(wait)
		}
		return services.ScriptingMessage{}, err
	}
	return services.ParseScripting(m.Data)
}

// answer answers a keep-alive.
func (j *scriptingSession) answer(ctx context.Context, m services.ScriptingMessage) error {
	if m.Type != services.ScriptingKeepAlive {
		return nil
	}
	return j.send(ctx, services.NewScriptingStatus(services.ScriptingKeepAliveAck, 0))
}

// work runs the package, and meanwhile talks to the user. The package ends with the
// session.
func (j *scriptingSession) work(ctx context.Context) (status uint32, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	result := make(chan int, 1)
	go func() { result <- j.run(ctx) }()
	stopped := false
	defer func() {
		if !stopped {
			cancel()
			<-result // nothing runs in the directory any more
		}
	}()
	messages, failed := receive(ctx, j.s)
	keepAlive := time.NewTicker(j.cfg.KeepAlive)
	defer keepAlive.Stop()
	heard := true
	for {
		select {
		case n := <-result:
			stopped = true
			return uint32(n), nil
		case err := <-failed:
			return 0, err
		case message := <-messages:
			heard = true
			m, err := services.ParseScripting(message.Data)
			if err == nil {
				err = j.answer(ctx, m)
			}
			if err != nil {
				return 0, err
			}
		case <-keepAlive.C:
			if !heard {
				return 0, errSilent
			}
			heard = false
			if err := j.send(ctx, services.ScriptingMessage{Type: services.ScriptingKeepAlive}); err != nil {
				return 0, err
			}
		}
	}
}

// run unpacks and runs the package, and returns its exit status.
func (j *scriptingSession) run(ctx context.Context) int {
	start := time.Now()
	status, err := j.execute(ctx)
	if err != nil {
		j.cfg.Log("work package: %v", err)
		return exitBroken
	}
	j.cfg.Log("work package ended with status %d after %v", status, time.Since(start).Round(time.Millisecond))
	return status
}

func (j *scriptingSession) execute(ctx context.Context) (int, error) {
	input, err := os.Open(filepath.Join(j.dir, inputFile))
	if err != nil {
		return 0, err
	}
	defer input.Close()
	if err := unpack(j.dir, input, 10*j.cfg.MaxPackage); err != nil {
		return 0, err
	}
	environment := ""
	if j.hash != nil {
		environment = environmentFile
	}
	return j.cfg.Run.run(ctx, j.dir, outputFile, environment, "", "")
}

// download sends the result: nothing if the package has left none.
func (j *scriptingSession) download(ctx context.Context) error {
	if f, err := openResult(j.dir); err == nil {
		defer f.Close()
		if err := j.sendParts(ctx, io.LimitReader(f, j.cfg.MaxPackage)); err != nil {
			return err
		}
	}
	if err := j.send(ctx, services.ScriptingMessage{Type: services.ScriptingDownload}); err != nil {
		return err
	}
	// The user ends the session. What it has not received yet would be lost otherwise.
	for {
		m, err := j.receive(ctx)
		if err == nil {
			err = j.answer(ctx, m)
		}
		if err != nil {
			return err
		}
	}
}

// openResult opens the result, which must be a file in the directory: a link could lead to
// any file that rsp may read, and opening a pipe would wait.
func openResult(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, outputFile), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(errors.New("the result is no file"), err, f.Close())
	}
	return f, nil
}

func (j *scriptingSession) sendParts(ctx context.Context, r io.Reader) error {
	part := make([]byte, services.MaxPart)
	for {
		n, err := io.ReadFull(r, part)
		if n > 0 {
			if err := j.send(ctx, services.ScriptingMessage{Type: services.ScriptingDownload, Data: part[:n]}); err != nil {
				return err
			}
		}
		if err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return nil
			}
			return err
		}
	}
}

func (j *scriptingSession) send(ctx context.Context, m services.ScriptingMessage) error {
	data, err := m.Append(nil)
	if err != nil {
		return err
	}
	return j.s.SendMessage(ctx, rserpool.Message{Data: data, PPID: services.PPIDScripting})
}

// maxEnvironments is how many environments are kept.
const maxEnvironments = 16

// environments are the environments that users have uploaded, by their hash.
type environments struct {
	dir string

	mu    sync.Mutex
	names []string // the last one used last
}

// get links an environment to a file, and reports whether it has it.
func (e *environments) get(hash []byte, into string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	name := hex.EncodeToString(hash)
	for i, n := range e.names {
		if n == name {
			e.names = append(append(e.names[:i:i], e.names[i+1:]...), name)
			return copyFile(filepath.Join(e.dir, name), into) == nil
		}
	}
	return false
}

// put keeps an environment, if it has the hash that the user says.
func (e *environments) put(hash []byte, from string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	data, err := os.Open(from)
	if err != nil {
		return err
	}
	defer data.Close()
	sum := sha1.New()
	if _, err := io.Copy(sum, data); err != nil {
		return err
	}
	name := hex.EncodeToString(hash)
	if hex.EncodeToString(sum.Sum(nil)) != name {
		return errors.New("the environment has another hash than the user says")
	}
	if err := os.MkdirAll(e.dir, 0o700); err != nil {
		return err
	}
	for len(e.names) >= maxEnvironments {
		_ = os.Remove(filepath.Join(e.dir, e.names[0]))
		e.names = e.names[1:]
	}
	if err := copyFile(from, filepath.Join(e.dir, name)); err != nil {
		return err
	}
	e.names = append(e.names, name)
	return nil
}

// copyFile copies a file to a new one.
func copyFile(from, to string) error {
	r, err := os.Open(from)
	if err != nil {
		return err
	}
	defer r.Close()
	_ = os.Remove(to)
	w, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	return errors.Join(err, w.Close())
}
