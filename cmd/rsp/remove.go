package main

import (
	"cmp"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/rserpool/coredns-rserpool/internal/control"
	"github.com/rserpool/coredns-rserpool/rserpool"
	"github.com/spf13/cobra"
)

// usualControl is where the socket of a registrar is with the state directory that the manual
// suggests.
const usualControl = "/var/lib/rserpool/control.sock"

func newRemove() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "remove POOL ELEMENT",
		Short: "remove an element from the registrar on this machine",
		Long: `Remove an element from a pool: command the registrar that runs on this machine.

POOL is the pool's handle: its name in DNS, without the zone. ELEMENT is the element's
identifier, as rsp dump and the registrar's log show it.

A registrar keeps an element that is silent as a suspect, and answers with it while its
whole pool is silent. If you know that the element is dead, remove it: its registrar and
all others forget it. You can also remove an element that is in good health. It is not
told, and is back when it registers again, so end its process first.

Only the home of an element can remove it. If the home is another registrar, rsp names
it: run the command on that machine.

rsp connects to a UNIX socket. Its path is that of the Corefile option control, or
DIR/control.sock if the Corefile has state DIR. Without these options there is no socket.
Only the user that runs CoreDNS, and root, may use it (sudo -u USER rsp remove ...).

` + exitHelp,
		Example: `  rsp remove web 0d000001
  rsp remove --control /run/coredns/rserpool.sock web pe-0d000001`,
		Args: namedArgs("POOL", "ELEMENT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseID(args[1])
			if err != nil {
				return usage(cmd, err)
			}
			if path, err = filepath.Abs(path); err != nil { // errors name it
				return err
			}
			if err := control.CheckPath(path); err != nil {
				return usage(cmd, fmt.Errorf("--control: %w", err))
			}
			pool := rserpool.PoolHandle(args[0])
			resp, err := control.Call(cmd.Context(), path, control.Request{Remove: &control.Element{Pool: []byte(pool), ID: id}})
			if err != nil {
				return err
			}
			text, err := removal(pool, id, resp)
			if err == nil {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), text)
			}
			return err
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().StringVar(&path, "control", usualControl, "`PATH` of the registrar's socket")
	return cmd
}

// notRemovedError says why a registrar has not removed an element.
type notRemovedError struct{ text string }

func (e *notRemovedError) Error() string { return e.text }

// removal is the registrar's answer in words.
func removal(pool rserpool.PoolHandle, id rserpool.PEID, resp control.Response) (string, error) {
	what := fmt.Sprintf("element %v of pool %q", id, string(pool))
	home := fmt.Sprintf("registrar %v at %s", resp.Home, cmp.Or(strings.Join(resp.At, ","), "an unknown address"))
	switch resp.Result {
	case control.Removed:
		return what + " is removed", nil
	case control.Replaced:
		return what + " is removed; another process, whose registration waited for that, has the identifier now", nil
	case control.Unknown:
		return "", &notRemovedError{"there is no " + what}
	case control.Elsewhere:
		return "", &notRemovedError{fmt.Sprintf("the home of %s is %s: remove it there", what, home)}
	case control.Yielded:
		return "", &notRemovedError{fmt.Sprintf("%s is not removed: its home is now %s, which has claimed it: remove it there", what, home)}
	}
	return "", fmt.Errorf("the registrar's answer %q is not known: is it of another version?", resp.Result)
}
