// Command rsp registers processes as pool elements, resolves and watches pools, reports
// unreachable pool elements, serves example services, talks to pools by sessions, and
// shows the peers and the handlespace of registrars, and removes elements from one (RSerPool:
// RFC 5351, RFC 5352, RFC 5353).
package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/rserpool/coredns-rserpool/asap/pe"
	"github.com/rserpool/coredns-rserpool/asap/pu"
	"github.com/rserpool/coredns-rserpool/cmd/rsp/internal/child"
	"github.com/rserpool/coredns-rserpool/enrp/guest"
	"github.com/rserpool/coredns-rserpool/internal/client"
	"github.com/rserpool/coredns-rserpool/internal/control"
	"github.com/rserpool/coredns-rserpool/internal/sctp/localaddr"
	"github.com/rserpool/coredns-rserpool/rserpool"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// The exit statuses. `rsp help` and the commands' help texts list them.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitRefused     = 3
	exitUnreachable = 4
)

const exitHelp = `Exit status:
  0  done
  1  failed in a way not listed here
  2  wrong usage
  3  a registrar refused: it rejected the registration, the pool is unknown or empty,
     or the registrar is not the home of the element to remove
  4  no registrar or element could be reached, or none answered in time
  141  nobody reads the output any more, as in rsp watch web | head -1`

// exitPipe is what a shell shows for a command that SIGPIPE has ended.
const exitPipe = 128 + int(syscall.SIGPIPE)

func main() {
	child.Become()
	// A write to a pipe without a reader returns an error. It must not end rsp and
	// the server that rsp runs. The server inherits the default.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	status, by := run(os.Args[1:], os.Stdout, os.Stderr)
	if by != 0 {
		child.EndBySignal(by)
	}
	os.Exit(status)
}

// run runs a command line. It returns its exit status, and the signal that should end this
// process, 0 for none.
func run(args []string, stdout, stderr io.Writer) (status int, by syscall.Signal) {
	root := newRoot()
	root.SetArgs(args)
	out := &output{w: stdout}
	root.SetOut(out)
	addCompletion(root)
	log := newBacklog(stderr)
	defer log.flush(flushTime)
	root.SetErr(log)
	cmd, err := root.ExecuteC()
	if err == nil {
		err = out.failed()
	}
	if err == nil {
		return exitOK, 0
	}
	status = exitStatus(err)
	var silent *statusError
	if errors.As(err, &silent) {
		return status, silent.signal
	}
	if status != exitPipe {
		fmt.Fprintf(log, "rsp: %v\n", err)
		if h := hint(err, inTLS(cmd)); h != "" {
			fmt.Fprintf(log, "rsp: %s\n", h)
		}
	}
	return status, 0
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "rsp COMMAND",
		Short: "pool elements and pool users of RSerPool from the command line",
		Long: `rsp - pool elements and pool users of RSerPool (RFC 5351)

rsp makes a process on this machine an element of a server pool, asks a registrar for
the elements of a pool, and reports unreachable elements. It sends ASAP (RFC 5352) to
registrars, over the kernel's SCTP or SCTP in UDP (RFC 6951); commands that only ask can
use TCP too. It serves the example services of RSerPool (serve), and talks to a pool by a
session that goes on at another element if one fails (connect). For operators, it shows
pools as they change (watch), and a registrar's peers and its whole handlespace, by ENRP
(RFC 5353), and removes elements from the registrar on this machine (remove). It makes the
certificates of a trusted scope (ca).

` + exitHelp,
		Args:              unknownCommand,
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return noEmptyFlag(cmd) },
		SilenceErrors:     true,
		SilenceUsage:      true,
		DisableAutoGenTag: true,
	}
	root.SuggestionsMinimumDistance = 2
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if cmd == root && cmd.Flags().NArg() > 0 { // the flag is of a command that does not exist
			return unknownCommand(cmd, cmd.Flags().Args())
		}
		return usage(cmd, errors.New(ofStrconv.ReplaceAllString(err.Error(), "")))
	})
	root.Version = versionLine()
	root.SetVersionTemplate("{{.Version}}\n")
	root.AddCommand(newRegister(), newResolve(), newServe(), newWatch(), newConnect(), newUnreachable(), newPeers(), newDump(), newRemove(), newCA(), newCookieKey(), newVersion())
	root.SetHelpCommand(newHelp())
	root.InitDefaultHelpCmd()
	return root
}

// addCompletion adds cobra's command completion, which writes to the present output of root.
// Unlike cobra's, it refuses unknown shells.
func addCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	if c, _, err := root.Find([]string{"completion"}); err == nil {
		c.Args = unknownCommand
		c.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
}

// ofStrconv matches what package strconv writes before the cause of an error.
var ofStrconv = regexp.MustCompile(`strconv\.\w+: parsing ("[^"]*"|` + "`[^`]*`" + `): `)

// newHelp makes the command help. Unlike cobra's, it refuses unknown commands.
func newHelp() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "explain a command",
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			var names []string
			if len(args) == 0 {
				for _, c := range cmd.Root().Commands() {
					names = append(names, c.Name())
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			of, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return usage(cmd, fmt.Errorf("no help for %q: there is no such command", strings.Join(args, " ")))
			}
			of.InitDefaultHelpFlag()
			return of.Help()
		},
	}
}

// usageError is a mistake on the command line.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// notTogether refuses two flags that are both set. Cobra has the exclusion for completion;
// its error names neither the flags as they are typed nor the command's help, so the check
// of the arguments, which comes first, refuses them. cmd.Args must be set before.
func notTogether(cmd *cobra.Command, a, b string) {
	cmd.MarkFlagsMutuallyExclusive(a, b)
	args := cmd.Args
	cmd.Args = func(cmd *cobra.Command, list []string) error {
		if cmd.Flags().Changed(a) && cmd.Flags().Changed(b) {
			return usage(cmd, fmt.Errorf("--%s and --%s exclude each other: set one of them", a, b))
		}
		return args(cmd, list)
	}
}

// usage wraps a mistake on a command line, with a pointer to the command's help.
func usage(cmd *cobra.Command, err error) error {
	return &usageError{fmt.Errorf("%w (see: %s --help)", err, cmd.CommandPath())}
}

// unknownCommand refuses the arguments of rsp itself, of which the first one should have
// been a command.
func unknownCommand(root *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := fmt.Errorf("unknown command %q", args[0])
	if like := root.SuggestionsFor(args[0]); len(like) > 0 {
		err = fmt.Errorf("%w: did you mean %s?", err, strings.Join(like, " or "))
	}
	return usage(root, err)
}

// namedArgs refuses other arguments than one for each name.
func namedArgs(names ...string) cobra.PositionalArgs {
	return usageArgs(func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return fmt.Errorf("%s is missing", names[len(args)])
		case len(args) > len(names):
			return fmt.Errorf("unexpected argument %q", args[len(names)])
		}
		if i := slices.Index(args, ""); i >= 0 {
			return emptyError(names[i])
		}
		return nil
	})
}

// emptyError refuses an empty argument or flag. None of them has a meaning without a value,
// and to go on as without it would be a surprise.
func emptyError(what string) error {
	return fmt.Errorf("%s is empty: is a shell variable not set?", what)
}

// noEmptyFlag refuses flags that are set to nothing, except --tls, which ignores the
// environment then.
func noEmptyFlag(cmd *cobra.Command) (err error) {
	cmd.Flags().Visit(func(f *pflag.Flag) {
		empty := f.Value.Type() == "string" && f.Value.String() == ""
		if list, ok := f.Value.(pflag.SliceValue); ok {
			empty = slices.Contains(list.GetSlice(), "")
		}
		if empty && f.Name != "tls" {
			err = usage(cmd, emptyError("--"+f.Name))
		}
	})
	return err
}

func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usage(cmd, err)
		}
		return nil
	}
}

// statusError ends rsp with a status and without a message.
type statusError struct {
	status int
	signal syscall.Signal // that ends rsp in place of the status; 0 for none
}

// signaled ends rsp by a signal. The status is for process 1, which its own signals do not
// end.
func signaled(s syscall.Signal) *statusError { return &statusError{128 + int(s), s} }

func (e *statusError) Error() string { return fmt.Sprintf("exit status %d", e.status) }

// exitStatus returns the exit status for an error.
func exitStatus(err error) int {
	var (
		status       *statusError
		wrong        *usageError
		rejected     *pe.RejectedError
		refused      *pu.RefusedError
		empty        *pu.NoElementsError
		untold       *guest.RefusedError
		kept         *notRemovedError
		timeout      *pu.TimeoutError
		unreachable  *rserpool.UnreachableError
		unserved     *rserpool.FailoverError
		uncontrolled *control.UnreachableError
	)
	switch {
	case errors.As(err, &status):
		return status.status
	case errors.As(err, &wrong):
		return exitUsage
	case errors.As(err, &rejected), errors.As(err, &refused), errors.As(err, &empty), errors.As(err, &untold), errors.As(err, &kept):
		return exitRefused
	case errors.As(err, &timeout), errors.As(err, &unreachable), errors.As(err, &unserved), errors.As(err, &uncontrolled):
		return exitUnreachable
	case errors.Is(err, syscall.EPIPE): // of the standard output; nothing else is a pipe here
		return exitPipe
	}
	// Errors that cobra itself finds have no type.
	if strings.HasPrefix(err.Error(), "unknown command") || strings.HasPrefix(err.Error(), "if any flags in the group") {
		return exitUsage
	}
	return exitFailed
}

// onlyLookups reports whether rsp connected to no registrar, because it has no address.
func onlyLookups(e *rserpool.UnreachableError) bool {
	return len(e.Attempts) > 0 && !slices.ContainsFunc(e.Attempts, func(a rserpool.Attempt) bool { return len(a.Registrar.Addrs) > 0 })
}

// onlyRoutes reports whether this machine can send packets to none of the
// registrars.
func onlyRoutes(e *rserpool.UnreachableError) bool {
	return len(e.Attempts) > 0 && !slices.ContainsFunc(e.Attempts, func(a rserpool.Attempt) bool {
		var r *localaddr.RouteError
		return !errors.As(a.Err, &r)
	})
}

// onlyListening reports whether no registrar was asked, because rsp's own socket could not be opened.
func onlyListening(e *rserpool.UnreachableError) bool {
	return len(e.Attempts) > 0 && !slices.ContainsFunc(e.Attempts, func(a rserpool.Attempt) bool {
		var l *client.ListenError
		return !errors.As(a.Err, &l)
	})
}

// listenHint returns what to try if rsp's own socket could not be opened.
func listenHint(err error) string {
	if errors.Is(err, syscall.EADDRINUSE) {
		return "end the process that has the port, or leave out --encap and the port of --local: rsp then takes free ones"
	}
	if errors.Is(err, syscall.EADDRNOTAVAIL) {
		return "check --local and --address of rsp register: both must be addresses of this machine (ip address). --advertise registers an address that this machine does not have"
	}
	return "check --local, --encap and this machine's addresses (ip address)"
}

// hint returns what to try after an error, "" if there is no hint. tls says that rsp speaks TLS.
func hint(err error, tls bool) string {
	var (
		unreachable *rserpool.UnreachableError
		silent      *pu.TimeoutError
		noENRP      *noENRPError
		unserved    *rserpool.FailoverError
		rejected    *pe.RejectedError
		unbound     *client.ListenError
	)
	switch {
	case errors.As(err, &rejected) && errors.Is(err, rserpool.CauseSecurity):
		return refusedHint(err)
	case errors.As(err, &unserved) && otherElements(unserved):
		return "if the identity is one that may serve the pool, because a registrar's option allow says so, name it with --tls-elements IDENTITY"
	case errors.As(err, &unreachable) && onlyLookups(unreachable):
		return "check the name, or use the registrar's address"
	case errors.As(err, &unreachable) && onlyRoutes(unreachable):
		return "check this machine's addresses and routes (ip address, ip route), or use another --registrar"
	case errors.As(err, &unreachable) && onlyListening(unreachable):
		return listenHint(unreachable.Attempts[0].Err)
	case errors.As(err, &noENRP) && noENRP.role != "" && !untrusted(err):
		return noENRP.role
	case errors.As(err, &unreachable) && (wrongPort(unreachable, tls) != "" || untrusted(err)):
		return cmp.Or(wrongPort(unreachable, tls), refusedHint(err))
	case errors.As(err, &silent):
		return "does a registrar serve ASAP there? ASAP uses port 3863 (3864 with --tls). The port of ENRP (9901) accepts associations, too, and does not answer by ASAP"
	case errors.As(err, &noENRP):
		return mayHaveTLS(err, tls) + "does a registrar serve ENRP there? CoreDNS serves ENRP only with one of the options peer, enrp_announce and enrp. ENRP uses port 9901 (9902 with --tls) and SCTP in UDP uses UDP port 9899, unless --registrar ADDRESS:PORT/UDPPORT sets others; --via selects the transport"
	case errors.As(err, &unreachable):
		return mayHaveTLS(err, tls) + "is a registrar running there? ASAP uses port 3863 (3864 with --tls) and SCTP in UDP uses UDP port 9899, unless --registrar ADDRESS:PORT/UDPPORT sets others; --via selects the transport"
	case errors.As(err, &unbound):
		return listenHint(err)
	}
	return ""
}
