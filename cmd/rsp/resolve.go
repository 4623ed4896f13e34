package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/rserpool/coredns-rserpool/asap/pu"
	"github.com/rserpool/coredns-rserpool/rserpool"
	"github.com/spf13/cobra"
)

// userFlags are the flags of the commands that ask a registrar.
type userFlags struct {
	registrarFlags
	logFlags
	timeout time.Duration
}

func (f *userFlags) add(cmd *cobra.Command) {
	cmd.Flags().SortFlags = false
	f.registrarFlags.add(cmd, append(slices.Clip(overSCTP), rserpool.ViaTCP))
	cmd.Flags().DurationVar(&f.timeout, "timeout", 10*time.Second, "time after which rsp gives up. rsp tries up to three registrars at the same time. If there are more, or a name has more addresses, silent ones lose their place after a part of the time, a sixth at least")
	f.logFlags.add(cmd)
}

// open opens a pool user.
func (f *userFlags) open(cmd *cobra.Command) (*pu.User, error) {
	cfg, err := f.config(cmd)
	if err != nil {
		return nil, err
	}
	return pu.Open(cfg)
}

// config is the configuration of the pool user.
func (f *userFlags) config(cmd *cobra.Command) (pu.Config, error) {
	if f.timeout <= 0 {
		return pu.Config{}, usage(cmd, fmt.Errorf("--timeout must be positive, got %v", f.timeout))
	}
	r, err := f.reach(cmd)
	if err != nil {
		return pu.Config{}, err
	}
	log := f.logger(cmd.ErrOrStderr())
	return pu.Config{
		Registrars:    r.registrars,
		AnnounceGroup: r.announce,
		Via:           r.via,
		Local:         r.local,
		EncapPort:     f.encap,
		TLS:           r.tls,
		TLSRegistrars: f.tls.registrars,
		TLSElements:   f.tls.elements,
		Timers:        f.timers(),
		Logger:        log.transport(),
	}, nil
}

// timers divides the time. The requests of a registrar that takes the association, and does
// not answer, are repeated twice. If there are more than three registrars or addresses, the hunt
// divides ServerHunt among them.
func (f *userFlags) timers() pu.Timers {
	return pu.Timers{Request: f.timeout / 3, ServerHunt: f.timeout}
}

// limit ends what takes longer than the timeout. The timers come first where they can: their
// errors say more.
func (f *userFlags) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, f.timeout+200*time.Millisecond)
}

type resolveFlags struct {
	userFlags
	n     uint32
	watch bool
	json  bool
}

func newResolve() *cobra.Command {
	f := new(resolveFlags)
	cmd := &cobra.Command{
		Use:   "resolve POOL",
		Short: "ask a registrar for the elements of a pool",
		Long: `Ask a registrar for the elements of a pool, as the pool's policy selects them.

The first element in the answer is the policy's first choice. LIFE is the registration
life as it is on the wire: in seconds for elements that follow RFC 5354, in
milliseconds for elements of rsp and of the reference implementation RSPLIB.

With --watch, rsp subscribes to the pool's changes and prints the pool after each
change, until a signal ends rsp, or nobody reads the output any more. If the registrar
sends no updates, or the pool does not exist, rsp asks every 2 s.

` + jsonHandleHelp + `

` + registrarHelp + `

` + exitHelp,
		Example: `  rsp resolve web
  rsp resolve -n 10 --registrar 192.0.2.1 --via tcp web
  rsp resolve --json web | jq -r '.elements[0].addresses[0]'
  rsp resolve --watch web`,
		Args: namedArgs("POOL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			u, err := f.open(cmd)
			if err != nil {
				return err
			}
			defer u.Close()
			if f.watch {
				return f.follow(cmd, u, rserpool.PoolHandle(args[0]))
			}
			ctx, cancel := f.limit(cmd.Context())
			defer cancel()
			r, err := u.Resolve(ctx, rserpool.PoolHandle(args[0]), f.n)
			if err != nil {
				return err
			}
			return f.print(cmd.OutOrStdout(), r)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().Uint32VarP(&f.n, "items", "n", 0, "number of elements to ask for; 0 lets the registrar decide")
	cmd.Flags().BoolVarP(&f.watch, "watch", "w", false, "print the pool after each change, until a signal ends rsp")
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON, one object per line")
	f.userFlags.add(cmd)
	return cmd
}

// follow prints a pool at each change until a signal of endAlone.
func (f *resolveFlags) follow(cmd *cobra.Command, u *pu.User, pool rserpool.PoolHandle) error {
	ctx, stop := whileRead(cmd.Context(), cmd.OutOrStdout())
	defer stop(nil)
	signals, release := take(endAlone, endAlone)
	defer release()
	go func() {
		select {
		case <-signals:
			stop(nil)
		case <-ctx.Done():
		}
	}()
	log := f.logger(cmd.ErrOrStderr())
	last := ""
	for r, err := range u.Watch(ctx, pool, f.n) {
		var text strings.Builder
		switch {
		case ctx.Err() != nil:
			return whyEnded(ctx)
		case err != nil:
			text.WriteString(err.Error())
		default:
			if err := f.print(&text, r); err != nil {
				return err
			}
		}
		if text.String() == last { // asked again, without a change
			continue
		}
		last = text.String()
		if err != nil {
			log.log(quiet, "%v", err)
			continue
		}
		out := last
		if !f.json {
			out = time.Now().Format(time.RFC3339) + "\n" + out
		}
		if err := writeUntil(ctx, cmd.OutOrStdout(), out); err != nil {
			return err
		}
	}
	return errors.New("the watch has ended")
}

// writeUntil writes, or returns nil when ctx ends before a reader takes it.
func writeUntil(ctx context.Context, w io.Writer, text string) error {
	done := make(chan error, 1)
	go func() {
		_, err := io.WriteString(w, text)
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return nil
	}
}

func (f *resolveFlags) print(w io.Writer, r *pu.Resolution) error {
	if f.json {
		return printJSON(w, r)
	}
	return printTable(w, r)
}

// printTable writes a resolution as a table.
func printTable(w io.Writer, r *pu.Resolution) error {
	fmt.Fprintf(w, "pool %q, policy %v, registrar %s\n", string(r.Pool), r.Policy.Type, r.Registrar)
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tHOME\tTRANSPORT\tADDRESSES\tVALUES\tLIFE")
	for i := range r.Elements {
		e := &r.Elements[i]
		fmt.Fprintf(t, "%v\t%v\t%s\t%s\t%s\t%s\n", e.ID, e.Home, transport(&e.UserTransport),
			strings.Join(addresses(&e.UserTransport), ","), values(e.Policy, r.Policy), life(e))
	}
	return t.Flush()
}

func life(e *rserpool.PoolElement) string {
	if e.Life < 0 {
		return "infinite"
	}
	return strconv.Itoa(int(e.Life))
}

// transport returns a transport without its addresses.
func transport(t *rserpool.Transport) string {
	s := fmt.Sprintf("%s:%d", t.Type, t.Port)
	if t.Use == rserpool.DataPlusControl {
		s += "+control"
	}
	return s
}

// values returns an element's policy values, with its policy if that differs from the
// pool's.
func values(p, pool rserpool.Policy) string {
	s := p.String()
	if p.Type == pool.Type {
		s = strings.TrimPrefix(strings.TrimPrefix(s, p.Type.String()), " ")
	}
	if s == "" {
		return "-"
	}
	return s
}

func addresses(t *rserpool.Transport) []string {
	list := make([]string, len(t.Addrs))
	for i, a := range t.Addrs {
		list[i] = a.String()
	}
	return list
}

// jsonResolution and jsonElement are the output of --json.
type jsonResolution struct {
	jsonHandle
	Policy     string        `json:"policy"`
	Registrar  string        `json:"registrar"`
	Subscribed bool          `json:"subscribed"`
	Elements   []jsonElement `json:"elements"`
}

type jsonElement struct {
	ID          string   `json:"id"`
	Home        string   `json:"home"`
	Protocol    string   `json:"protocol"`
	Port        uint16   `json:"port"`
	Control     bool     `json:"control"`
	Addresses   []string `json:"addresses"`
	Policy      string   `json:"policy"`
	Weight      *uint32  `json:"weight,omitempty"`
	Priority    *uint32  `json:"priority,omitempty"`
	Load        *float64 `json:"load,omitempty"`
	Degradation *float64 `json:"degradation,omitempty"`
	DPF         *float64 `json:"dpf,omitempty"`
	Life        int32    `json:"life"`
}

// printJSON writes a resolution as JSON.
func printJSON(w io.Writer, r *pu.Resolution) error {
	out := jsonResolution{
		jsonHandle: newJSONHandle(r.Pool), Policy: r.Policy.Type.String(), Registrar: r.Registrar,
		Subscribed: r.Subscribed, Elements: []jsonElement{},
	}
	for i := range r.Elements {
		out.Elements = append(out.Elements, newJSONElement(&r.Elements[i]))
	}
	return json.NewEncoder(w).Encode(out)
}

func newJSONElement(e *rserpool.PoolElement) jsonElement {
	j := jsonElement{
		ID: e.ID.String(), Home: e.Home.String(),
		Protocol: e.UserTransport.Type.String(), Port: e.UserTransport.Port,
		Control:   e.UserTransport.Use == rserpool.DataPlusControl,
		Addresses: addresses(&e.UserTransport),
		Policy:    e.Policy.Type.String(), Life: e.Life,
	}
	for _, f := range e.Policy.Type.Fields() {
		switch f {
		case rserpool.FieldWeight:
			j.Weight = &e.Policy.Weight
		case rserpool.FieldPriority:
			j.Priority = &e.Policy.Priority
		case rserpool.FieldLoad:
			j.Load = fraction(e.Policy.Load)
		case rserpool.FieldLoadDegradation:
			j.Degradation = fraction(e.Policy.LoadDegradation)
		case rserpool.FieldDPF:
			j.DPF = fraction(e.Policy.DPF)
		case rserpool.FieldDistance: // not shown: registrars write it
		}
	}
	return j
}

// fraction rounds away the digits that the unit on the wire adds.
func fraction(v uint32) *float64 {
	f := math.Round(rserpool.ToFraction(v)*1e9) / 1e9
	return &f
}
