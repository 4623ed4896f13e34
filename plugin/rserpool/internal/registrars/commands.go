package registrars

import (
	"context"
	"fmt"

	"github.com/rserpool/coredns-rserpool/internal/control"
	core "github.com/rserpool/coredns-rserpool/registrar"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// takeCommands serves the operator's commands, if the options name a socket. A socket that the
// Corefile itself names has to work; without the usual one of a state, the registrar goes on.
func (s *shared) takeCommands() error {
	path := s.options.controlPath()
	if path == "" {
		return nil
	}
	var err error
	if s.control, err = control.Listen(path, s.command, s.logCommands); err == nil {
		return nil
	}
	if s.options.Control != "" {
		return fmt.Errorf("control: %w", err)
	}
	log.Warningf("registrar at %s takes no commands of rsp remove until CoreDNS is restarted: %v. The option control names another path", s.options, err)
	return nil
}

// logCommands logs what becomes of the socket later.
func (s *shared) logCommands(warn bool, text string) {
	if warn {
		log.Warningf("registrar at %s: %s", s.options, text)
	} else {
		log.Infof("registrar at %s: %s", s.options, text)
	}
}

func (s *shared) endCommands() {
	if s.control == nil {
		return
	}
	if err := s.control.Close(); err != nil {
		log.Warningf("registrar at %s: %v", s.options, err)
	}
}

// command does what an operator asks for.
func (s *shared) command(ctx context.Context, req control.Request) control.Response {
	if req.Remove == nil {
		return control.Response{Error: "the registrar does not know this command: is rsp of another version?"}
	}
	handle, id := rserpool.PoolHandle(req.Remove.Pool), req.Remove.ID
	r, err := s.Remove(ctx, handle, id)
	if err != nil {
		return control.Response{Error: fmt.Sprintf("the registrar does not answer: %v", err)}
	}
	if r.Result == core.RemovalUnknown && !s.Ready() {
		return control.Response{Error: "the registrar starts, and does not know all elements yet: try again"}
	}
	resp := control.Response{Result: removals[r.Result], Home: r.Home}
	for _, a := range r.At {
		resp.At = append(resp.At, a.String())
	}
	return resp
}

var removals = [...]control.Result{
	core.RemovalDone:      control.Removed,
	core.RemovalReplaced:  control.Replaced,
	core.RemovalUnknown:   control.Unknown,
	core.RemovalElsewhere: control.Elsewhere,
	core.RemovalYielded:   control.Yielded,
}
