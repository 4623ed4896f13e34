package main

import (
	"github.com/rserpool/coredns-rserpool/rserpool"
	"github.com/spf13/cobra"
)

func newUnreachable() *cobra.Command {
	f := new(userFlags)
	cmd := &cobra.Command{
		Use:   "unreachable POOL ELEMENT",
		Short: "report an element that cannot be reached",
		Long: `Report to a registrar that an element of a pool cannot be reached.

ELEMENT is the element's identifier, as rsp resolve shows it. The registrar sends the
element a keep-alive. If the element does not answer, it becomes a suspect: it leaves the
answers while its pool has other elements, and is back as soon as it answers. An element
that answers stays in the pool, even if it is reported often, unless the registrar is
configured to remove elements that several clients report (MAX-BAD-PE-REPORT).
Registrars do not answer reports: exit status 0 means that a registrar has received
the report.

` + registrarHelp + `

` + exitHelp,
		Example: `  rsp unreachable web 0d000001
  rsp unreachable --registrar 192.0.2.1 --via tcp web pe-0d000001`,
		Args: namedArgs("POOL", "ELEMENT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseID(args[1])
			if err != nil {
				return usage(cmd, err)
			}
			u, err := f.open(cmd)
			if err != nil {
				return err
			}
			ctx, cancel := f.limit(cmd.Context())
			defer cancel()
			if err := u.ReportUnreachable(ctx, rserpool.PoolHandle(args[0]), id); err != nil {
				_ = u.Close()
				return err
			}
			return u.Close() // waits until the report is delivered
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	f.add(cmd)
	return cmd
}
