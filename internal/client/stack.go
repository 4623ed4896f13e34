package client

import (
	"fmt"
	"log/slog"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/stack"
)

// framing is that of ASAP over TCP.
var framing = sctp.Framing{HeadLen: asap.HeaderLen, Len: asap.MessageLen, Align: 4, PPID: asap.PPID}

// openStack opens the machine's transports.
func openStack(cfg Config) (ListenFunc, func() error, error) {
	stack, err := stack.New(stack.Config{Only: cfg.Via, EncapPort: cfg.EncapPort, Framing: framing, Logf: logf(cfg.Logger)})
	if err != nil {
		return nil, nil, err
	}
	return stack.Listen, stack.Close, nil
}

// logf is the Logger in the form that package sctp takes, nil without one.
func logf(l *slog.Logger) func(format string, args ...any) {
	if l == nil {
		return nil
	}
	return func(format string, args ...any) { l.Info(fmt.Sprintf(format, args...)) }
}
