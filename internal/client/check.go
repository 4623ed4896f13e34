package client

import (
	"cmp"
	"fmt"
	"net/netip"
	"reflect"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/multicast"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// CheckVia refuses a value that is none of the constants of rserpool.
func CheckVia(v rserpool.Via) error {
	if v > rserpool.ViaTCP {
		return fmt.Errorf("field Via is %d: use rserpool.ViaAuto, ViaKernel, ViaUDP or ViaTCP", uint8(v))
	}
	return nil
}

// CheckTimers refuses a negative duration in a struct of timers.
func CheckTimers(timers any) error {
	v := reflect.ValueOf(timers)
	for i := range v.NumField() {
		if d, ok := v.Field(i).Interface().(time.Duration); ok && d < 0 {
			return fmt.Errorf("field Timers.%s is %v: it must not be negative; 0 stands for the default", v.Type().Field(i).Name, d)
		}
	}
	return nil
}

// CheckSockets refuses local addresses that cannot be bound together, and an announce group
// that is none.
func CheckSockets(local []netip.AddrPort, group netip.AddrPort) error {
	if _, _, _, err := (sctp.ListenConfig{Addrs: local}).BindAddrs(); err != nil {
		return fmt.Errorf("field Local: %w", err)
	}
	if group.IsValid() {
		if err := multicast.Check(group); err != nil {
			return fmt.Errorf("field AnnounceGroup: %w", err)
		}
	}
	return nil
}

// ParseRegistrars reads the registrars of a configuration, with the default port of the
// protocol. If registrars cannot be reached by TCP, noTCP is the error for one that asks
// for it.
func ParseRegistrars(texts []string, port uint16, noTCP error) ([]rserpool.Registrar, error) {
	var all []rserpool.Registrar
	for _, text := range texts {
		r, err := rserpool.ParseRegistrar(text)
		switch {
		case err != nil:
			return nil, err
		case r.TCP && noTCP != nil:
			return nil, noTCP
		}
		r.Port = cmp.Or(r.Port, port)
		all = append(all, r)
	}
	return all, nil
}
