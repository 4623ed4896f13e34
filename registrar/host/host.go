package host

import (
	"context"
	"net/netip"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/registrar"
	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
)

// Config configures a Host.
type Config struct {
	registrar.Config
	// ASAP are the addresses and the port (one for all) where ASAP is served
	// over SCTP and TCP; none stands for all addresses and port 3863.
	ASAP []netip.AddrPort
	// Transport says which kinds of SCTP to offer.
	Transport sctp.Mode
	// Encap is the UDP port of SCTP in UDP; 0 stands for 9899.
	Encap uint16
	// AnnounceGroup is the multicast group and port of server announces; the
	// zero value sends none.
	AnnounceGroup netip.AddrPort
	// Logf is told what an operator wants to know, one line a call.
	Logf func(warn bool, text string)
}

// Host runs a registrar: it owns the sockets, the clock and the one goroutine
// that drives the core.
type Host struct{}

// New checks the configuration and makes a Host that does nothing yet: no
// socket, no goroutine.
func New(cfg Config) (*Host, error) { panic("todo") }

// Start opens the sockets and starts the registrar. After an error nothing is
// left open, and Start may be tried again.
func (h *Host) Start() error { panic("todo") }

// Close stops the registrar, tells peers in good order as far as ctx leaves
// time, closes all sockets and waits for the goroutines. It may be called more
// than once.
func (h *Host) Close(ctx context.Context) error { panic("todo") }

// Space is the handlespace, to be read by any goroutine, before Start too.
func (h *Host) Space() *handlespace.Space { panic("todo") }

// Ready reports whether the registrar serves: it is started, and knows the
// handlespace of its scope.
func (h *Host) Ready() bool { panic("todo") }

// Stats returns the counters so far. It may be called by any goroutine.
func (h *Host) Stats() Stats { panic("todo") }

// LocalAddrs returns where ASAP is served, with the port that was taken where
// the configuration says 0. It is empty before Start.
func (h *Host) LocalAddrs() []netip.AddrPort { panic("todo") }

// Stats are the counters of a Host and its registrar.
type Stats struct {
	registrar.Stats
}
