// A program of another module: it embeds a registrar, registers an element, sets its
// load, resolves, watches and reports it, and dumps the registrar.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/netip"
	"time"

	"github.com/rserpool/coredns-rserpool/asap/cookie"
	"github.com/rserpool/coredns-rserpool/asap/pe"
	"github.com/rserpool/coredns-rserpool/asap/pu"
	"github.com/rserpool/coredns-rserpool/enrp/guest"
	"github.com/rserpool/coredns-rserpool/registrar/host"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	encap, err := freePort()
	if err != nil {
		return err
	}
	any := []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}
	h, err := host.Open(host.Config{ASAP: any, ENRP: any, Via: rserpool.ViaUDP, EncapPort: encap})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	at := func(addrs []netip.AddrPort) []string { return []string{fmt.Sprintf("%v/%d", addrs[0], encap)} }

	e, err := pe.Open(pe.Config{
		Pool:       "web",
		Transport:  rserpool.MustParseTransport("tcp:127.0.0.1:80"),
		Policy:     rserpool.MustParsePolicy("LeastUsed"),
		Registrars: at(h.LocalAddrs()),
		Via:        rserpool.ViaUDP,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	if err := e.Wait(ctx); err != nil {
		return err
	}
	fmt.Println("registered", e.State().Registered)

	u, err := pu.Open(pu.Config{Registrars: at(h.LocalAddrs()), Via: rserpool.ViaUDP})
	if err != nil {
		return err
	}
	defer u.Close()
	if _, err := u.Resolve(ctx, "none", 1); !errors.Is(err, pu.ErrUnknownPool) {
		return fmt.Errorf("a pool that is not there: %w", err)
	}
	r, err := u.Resolve(ctx, "web", 1)
	if err != nil {
		return err
	}
	fmt.Println("resolved", r.Elements[0].UserTransport)
	if err := u.ReportUnreachable(ctx, "web", r.Elements[0].ID); err != nil {
		return err
	}
	if err := watch(ctx, u, e); err != nil {
		return err
	}
	if err := seal(); err != nil {
		return err
	}
	return dump(ctx, at(h.ENRPAddrs()))
}

// seal seals a state cookie and opens it.
func seal() error {
	s, err := cookie.New(cookie.Config{Pool: "web", Keys: []cookie.Key{cookie.GenerateKey()}})
	if err != nil {
		return err
	}
	sealed, err := s.Seal("", []byte("state"))
	if err != nil {
		return err
	}
	state, err := s.Open("", sealed)
	if err != nil {
		return err
	}
	fmt.Printf("sealed %s\n", state)
	return nil
}

// watch sets the load, and waits until the registrar tells it.
func watch(ctx context.Context, u *pu.User, e *pe.Element) error {
	const half = 0.5
	if err := e.Update(rserpool.Policy{Type: rserpool.LeastUsed, Load: rserpool.FromFraction(half)}); err != nil {
		return err
	}
	for r, err := range u.Watch(ctx, "web", 0) {
		if ctx.Err() != nil {
			return err
		}
		if err == nil && rserpool.ToFraction(r.Elements[0].Policy.Load) > 0.4 {
			fmt.Println("watched", r.Elements[0].Policy)
			return nil
		}
	}
	return nil
}

func dump(ctx context.Context, registrars []string) error {
	g, err := guest.Open(guest.Config{Registrars: registrars, Via: rserpool.ViaUDP})
	if err != nil {
		return err
	}
	defer g.Close()
	for pool, err := range g.Pools(ctx, false) {
		if err != nil {
			return err
		}
		fmt.Println("dumped", pool.Handle, len(pool.Elements))
	}
	return nil
}

func freePort() (uint16, error) {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Port(), nil
}
