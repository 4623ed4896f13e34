package registrars

import (
	"context"
	"log/slog"

	clog "github.com/coredns/coredns/plugin/pkg/log"
)

var log = clog.NewWithPlugin(subsystem)

// logHandler hands the lines of registrars to CoreDNS's log.
type logHandler struct{}

func (logHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h logHandler) WithAttrs([]slog.Attr) slog.Handler     { return h } // lines have none
func (h logHandler) WithGroup(string) slog.Handler          { return h }

func (logHandler) Handle(_ context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		log.Warning(r.Message)
	} else {
		log.Info(r.Message)
	}
	return nil
}
