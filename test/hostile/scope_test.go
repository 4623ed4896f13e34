package hostile

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/rserpool"
	"github.com/rserpool/coredns-rserpool/test/here"
	"golang.org/x/net/ipv4"
)

// falsePeer is an association to the server's ENRP endpoint, of a peer that says
// to be a registrar.
type falsePeer struct {
	t     *testing.T
	id    rserpool.ServerID
	ep    sctp.Endpoint
	assoc sctp.AssocID
	got   atomic.Int64 // messages, which are not looked at
}

// falsePeer introduces itself.
func (c *crowd) falsePeer(at netip.Addr, to netip.AddrPort, id rserpool.ServerID) *falsePeer {
	c.s.t.Helper()
	p := &falsePeer{t: c.s.t, id: id}
	up := make(chan struct{})
	var err error
	p.ep, err = c.stack.Listen(sctp.ListenConfig{Addrs: []netip.AddrPort{netip.AddrPortFrom(at, 0)}}, func(ev sctp.Event) {
		switch ev.Type {
		case sctp.Up:
			close(up)
		case sctp.Received:
			p.got.Add(1)
		}
	})
	if err != nil {
		c.s.t.Fatal(err)
	}
	p.assoc = p.ep.Connect(sctp.Dest{Addrs: []netip.AddrPort{to}, Kind: c.kind, EncapPort: c.s.encap})
	select {
	case <-up:
	case <-time.After(30 * time.Second):
		c.s.t.Fatal("no association within 30 s")
	}
	p.tell(&enrp.Presence{Sender: id})
	return p
}

func (p *falsePeer) tell(m enrp.Message) {
	p.t.Helper()
	b, err := m.Append(nil)
	if err != nil {
		p.t.Fatal(err)
	}
	wait(p.t, "room for a message", func() bool {
		err := p.ep.Send(p.assoc, sctp.Message{Data: b, PPID: enrp.PPID})
		if err != nil && !errors.Is(err, sctp.ErrQueueFull) {
			p.t.Fatal(err)
		}
		return err == nil
	})
}

// names tells of an element of its own.
func (p *falsePeer) names(id uint32) {
	p.t.Helper()
	at := func(t rserpool.TransportType, port uint16) rserpool.Transport {
		return rserpool.Transport{Type: t, Port: port, Addrs: []netip.Addr{loopback}}
	}
	p.tell(&enrp.HandleUpdate{Sender: p.id, Action: enrp.AddPE, Handle: "false", Element: rserpool.PoolElement{
		ID: rserpool.PEID(id), Home: p.id, Life: 3600, Policy: rserpool.Policy{Type: rserpool.RoundRobin},
		UserTransport: at(rserpool.TCP, 7), ASAPTransport: at(rserpool.SCTP, 7),
	}})
}

// beginScopeSiege is a siege of a server that has an ENRP endpoint.
func beginScopeSiege(t *testing.T, options ...string) (*siege, netip.AddrPort) {
	t.Helper()
	at := netip.AddrPortFrom(loopback, here.FreePort(t))
	return beginSiege(t, append(options, fmt.Sprintf("enrp %v", at), "timer MAX-TIME-NO-RESPONSE 1s")...), at
}

// TestFalseElements has a peer name far more elements than there may be, and
// vanish, so that they are taken over.
func TestFalseElements(t *testing.T) {
	limit, attempts := 5000, 20_000
	if *long {
		limit, attempts = 500_000, 2_000_000
	}
	c := ceiling{heap: limit*1500 + 4<<20, goroutines: 20, files: 2, cpu: 80 * time.Microsecond, left: limit*200 + 2<<20}
	g, at := beginScopeSiege(t, fmt.Sprintf("limit elements %d", limit+honestElements))
	p := g.crowd().falsePeer(loopback, at, 66)
	for i := range attempts {
		p.names(uint32(i + 1))
	}
	wait(t, "refusals", func() bool { return g.stat("foreign_elements_refused_total", "") == attempts-limit })
	g.check(attempts, c)
	_ = p.ep.Close()
	g.elements(0)
	g.end(c)
}

// TestFalseRequests has a peer ask for the handlespace without end, and tell
// tables that the server has not asked for.
func TestFalseRequests(t *testing.T) {
	const rate = 1000
	attempts := 20_000
	if *long {
		attempts = 1_000_000
	}
	c := ceiling{heap: 12 << 20, goroutines: 20, files: 2, cpu: 100 * time.Microsecond}
	g, at := beginScopeSiege(t, fmt.Sprintf("limit peer_messages %d", rate))
	p := g.crowd().falsePeer(loopback, at, 66)
	for i := range uint32(100) {
		p.names(i + 1)
	}
	g.elements(100)
	table := &enrp.HandleTableResponse{Sender: 66, Pools: []enrp.PoolEntry{{Handle: "false"}}}
	for i := range rserpool.PEID(100) {
		table.Pools[0].Elements = append(table.Pools[0].Elements, rserpool.PoolElement{
			ID: i + 1, Home: 66, Life: 1, Policy: rserpool.Policy{Type: rserpool.RoundRobin},
			UserTransport: rserpool.Transport{Type: rserpool.TCP, Port: 7, Addrs: []netip.Addr{loopback}},
		})
	}
	for i := range attempts {
		switch i % 4 {
		case 0:
			p.tell(&enrp.HandleTableRequest{Sender: 66})
		case 1:
			p.tell(&enrp.ListRequest{Sender: 66})
		case 2:
			p.tell(&enrp.Presence{Sender: 66, ReplyRequired: true, HasChecksum: true, Checksum: uint16(i)})
		case 3:
			p.tell(table)
		}
		if i == attempts/2 {
			g.watch()
		}
	}
	received := func() (n int) {
		for _, m := range []string{"handle_table_request", "list_request", "presence", "handle_table_response"} {
			n += g.stat("enrp_messages_received_total", m)
		}
		return n
	}
	wait(t, "end of the messages", func() bool {
		return received()+g.stat("messages_ignored_total", "rate") >= attempts
	})
	g.check(attempts, c)
	if n := g.stat("messages_ignored_total", "rate"); n < attempts/4 {
		t.Errorf("%d of %d messages are ignored, want most of what goes beyond %d a second", n, attempts, rate)
	}
	_ = p.ep.Close()
	g.elements(0)
	g.end(c)
}

// TestFalseTakeovers has a peer say without end that it takes the server over, or wants to. The server
// tells its other peers that it lives.
func TestFalseTakeovers(t *testing.T) {
	attempts := 20_000
	if *long {
		attempts = 1_000_000
	}
	const others = 20
	c := ceiling{heap: others*80<<10 + 4<<20, goroutines: 5*others + 20, files: 2, cpu: 100 * time.Microsecond}
	g, at := beginScopeSiege(t, "server_id 7")
	crowd := g.crowd()
	var all []*falsePeer
	for i := range others {
		all = append(all, crowd.falsePeer(loopback, at, rserpool.ServerID(100+i)))
	}
	p := crowd.falsePeer(loopback, at, 66)
	all = append(all, p)
	wait(t, "the peers", func() bool { return g.stat("peers", "active") == len(all) })
	told := func() (n int64) {
		for _, q := range all[:others] {
			n += q.got.Load()
		}
		return n
	}
	begin, before := time.Now(), told()
	for i := range attempts {
		if i%2 == 0 {
			p.tell(&enrp.TakeoverServer{Sender: 66, Target: 7})
		} else {
			p.tell(&enrp.InitTakeover{Sender: 66, Target: 7})
		}
	}
	wait(t, "end of the messages", func() bool {
		n := g.stat("enrp_messages_received_total", "takeover_server") + g.stat("enrp_messages_received_total", "init_takeover")
		return n+g.stat("messages_ignored_total", "rate") >= attempts
	})
	// One presence a second, and what registrars say now and then.
	if n, most := told()-before, int64(others*(time.Since(begin)/time.Second+6)); n > most {
		t.Errorf("%d messages to %d other peers within %v, want at most %d", n, others, time.Since(begin), most)
	}
	g.check(attempts, c)
	for _, q := range all {
		_ = q.ep.Close()
	}
	g.end(c)
}

// TestFalseTables has a peer name elements at the ports of a victim, and not name them, by turns. Each
// element that it does not name any more is called.
func TestFalseTables(t *testing.T) {
	const rate = 256
	length := 3 * time.Second
	if *long {
		length = 30 * time.Second
	}
	c := ceiling{heap: 8 << 20, goroutines: 1100, files: 2, cpu: 2 * time.Millisecond}
	g, at := beginScopeSiege(t)
	victim, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer victim.Close()
	var packets atomic.Int64
	go func() {
		for b := make([]byte, 2048); ; packets.Add(1) {
			if _, err := victim.Read(b); err != nil {
				return
			}
		}
	}()
	full, empty := &enrp.HandleTableResponse{Sender: 66, Pools: []enrp.PoolEntry{{Handle: "false"}}}, &enrp.HandleTableResponse{Sender: 66}
	for i := range uint16(100) {
		full.Pools[0].Elements = append(full.Pools[0].Elements, rserpool.PoolElement{
			ID: rserpool.PEID(i + 1), Home: 66, Life: 3600, Policy: rserpool.Policy{Type: rserpool.RoundRobin},
			EncapPort:     victim.LocalAddr().(*net.UDPAddr).AddrPort().Port(),
			UserTransport: rserpool.Transport{Type: rserpool.TCP, Port: 7, Addrs: []netip.Addr{loopback}},
			ASAPTransport: rserpool.Transport{Type: rserpool.SCTP, Port: 1000 + i, Addrs: []netip.Addr{loopback}},
		})
	}
	p := g.crowd().falsePeer(loopback, at, 66)
	tables := 0
	began := time.Now()
	for pace := time.NewTicker(2 * time.Millisecond); time.Since(began) < length; <-pace.C {
		m := full
		if tables++; tables%2 == 0 {
			m = empty
		}
		p.tell(&enrp.Presence{Sender: 66, HasChecksum: true, Checksum: uint16(tables*7 + 1)})
		p.tell(m)
	}
	seconds := int(time.Since(began).Seconds()) + 3
	g.check(tables, c)
	got, calls := int(packets.Load()), g.stat("probes_total", "")
	t.Logf("%d tables: %d calls, and %d packets to the victim, in %v", tables, calls, got, time.Since(began).Round(time.Millisecond))
	if calls < rate || calls > rate*seconds || got > 2*rate*seconds {
		t.Errorf("%d calls and %d packets to the victim, want at most %d calls a second", calls, got, rate)
	}
	for _, e := range full.Pools[0].Elements {
		p.tell(&enrp.HandleUpdate{Sender: 66, Action: enrp.DelPE, Handle: "false", Element: e})
	}
	g.elements(0)
	_ = p.ep.Close()
	g.end(c)
}

// TestFalseRegistrars has one host say to be ever more registrars.
func TestFalseRegistrars(t *testing.T) {
	limit, attempts := 16, 200
	if *long {
		limit, attempts = 256, 5000
	}
	c := ceiling{heap: attempts*80<<10 + 2<<20, goroutines: 5*attempts + 20, files: 2, cpu: 20 * time.Millisecond}
	g, at := beginScopeSiege(t, fmt.Sprintf("limit peers %d", limit))
	g.falseRegistrars(at, limit, attempts, c)
	g.end(c)
}

// falseRegistrars has one host say to be more registrars than there may be.
func (g *siege) falseRegistrars(at netip.AddrPort, limit, attempts int, c ceiling) {
	t := g.t
	crowd := g.crowd()
	var all []*falsePeer
	for i := range attempts {
		all = append(all, crowd.falsePeer(loopback, at, rserpool.ServerID(100+i)))
	}
	wait(t, "refusals", func() bool { return g.stat("peers_refused_total", "") >= attempts-limit })
	if n := g.stat("peers", ""); n > limit {
		t.Errorf("%d peers, want at most %d", n, limit)
	}
	g.check(attempts, c)
	for _, p := range all {
		_ = p.ep.Close()
	}
	wait(t, "end of the peers", func() bool { return g.stat("peers", "") == 0 })
}

// TestForgedPresences has presences come by multicast without end, from many
// addresses, in the name of ever more registrars that are at the addresses of
// victims.
func TestForgedPresences(t *testing.T) {
	const limit, sources = 16, 32
	attempts := 4000
	if *long {
		attempts = 60_000
	}
	c := ceiling{heap: 4 << 20, goroutines: 5*limit + 20, files: 2, cpu: 400 * time.Microsecond}
	group := netip.AddrPortFrom(netip.AddrFrom4([4]byte{239, 255, 66, 66}), here.FreePort(t))
	g, _ := beginScopeSiege(t, fmt.Sprintf("enrp_announce %v", group), fmt.Sprintf("limit servers %d", limit),
		"timer MENTOR-DISCOVERY-TIMEOUT 1ms", "timer PEER-HEARTBEAT-CYCLE 1s")
	var forgers []*ipv4.PacketConn
	for i := range sources {
		conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 66, byte(i+1))})
		if err != nil {
			t.Skipf("LEFT OUT: no such loopback addresses here: %v", err)
		}
		defer conn.Close()
		forgers = append(forgers, ipv4.NewPacketConn(conn))
	}
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Skip(err)
	}
	info := rserpool.Transport{Type: rserpool.SCTP, Port: 9901, Addrs: make([]netip.Addr, 1)}
	forge := func(i int) {
		info.Addrs[0] = netip.AddrFrom4([4]byte{127, 66, byte(i >> 8), byte(i)})
		m := &enrp.Presence{Sender: rserpool.ServerID(i + 1), Info: rserpool.ServerInformation{ID: rserpool.ServerID(i + 1), Transport: info}}
		b, err := m.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = forgers[i%sources].WriteTo(b, &ipv4.ControlMessage{IfIndex: lo.Index}, net.UDPAddrFromAddrPort(group)); err != nil {
			t.Skipf("LEFT OUT: no multicast on the loopback: %v", err)
		}
	}
	pace := time.NewTicker(time.Millisecond)
	defer pace.Stop()
	began := time.Now()
	for i := range attempts {
		<-pace.C
		forge(i)
		if i == attempts/2 {
			g.watch()
		}
	}
	seconds := int(time.Since(began).Seconds()) + 2
	g.check(attempts, c)
	wait(t, "presences", func() bool { return g.stat("announcements_received_total", `"enrp"`) >= 100 })
	got := g.stat("announcements_received_total", `"enrp"`)
	if got > 200*seconds {
		t.Errorf("%d presences are looked at in %d s, want at most 200 a second", got, seconds)
	}
	if called := got - g.stat("announcements_refused_total", ""); called > limit*seconds {
		t.Errorf("%d presences lead to a call in %d s, want at most %d in a second", called, seconds, limit)
	}
	if peers := g.stat("peers", ""); peers != 0 {
		t.Errorf("%d peers, want none", peers)
	}
	g.end(c)
}
