package network

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Host is a host of the network.
type Host struct {
	Name  string
	n     *Network
	t     testing.TB
	dir   string // of its files
	space *space
	links []*Link
	files int
}

// Host makes a host. With addresses it has the interface eth0 on the first LAN.
func (n *Network) Host(name string, addrs ...string) *Host {
	n.t.Helper()
	s, err := newSpace()
	if err != nil {
		n.t.Fatal(err)
	}
	h := &Host{Name: name, n: n, t: n.t, dir: n.t.TempDir(), space: s}
	n.hosts = append(n.hosts, h)
	n.t.Cleanup(h.close)
	h.Sysctl("net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0")
	h.IP("link set lo up")
	if len(addrs) > 0 {
		h.Link("eth0", n.LAN, addrs...)
	}
	return h
}

func (h *Host) close() {
	if err := h.space.kill(); err != nil {
		h.t.Errorf("[%s] %v", h.Name, err)
	}
	for _, l := range h.links {
		l.close()
	}
	h.space.close()
}

// Eth0 is the host's first interface on a LAN.
func (h *Host) Eth0() *Link { return h.links[0] }

// IP runs `ip` with arguments that have no quoting: h.IP("route add default via", gw).
func (h *Host) IP(args ...string) string {
	h.t.Helper()
	return h.Run(append([]string{"ip"}, fields(args...)...)...)
}

// Sysctl sets kernel parameters, as "net.ipv4.ip_forward=1".
func (h *Host) Sysctl(settings ...string) {
	h.t.Helper()
	for _, s := range settings {
		key, value, _ := strings.Cut(s, "=")
		err := h.space.on(func() error {
			return os.WriteFile("/proc/sys/"+strings.ReplaceAll(key, ".", "/"), []byte(value), 0)
		})
		if err != nil {
			h.t.Fatalf("sysctl %s on %s: %v", s, h.Name, err)
		}
	}
}

// File has the host's processes see a text in the place of a file, for which the
// machine must have one. The file's name on the machine is the result.
func (h *Host) File(path, text string) string {
	h.t.Helper()
	file := h.NewFile(filepath.Base(path), text)
	err := h.space.on(func() error {
		real, err := filepath.EvalSymlinks(path)
		if err != nil {
			return err
		}
		return unix.Mount(file, real, "", unix.MS_BIND, "")
	})
	if err != nil {
		h.t.Fatalf("%s on %s: %v", path, h.Name, err)
	}
	return file
}

// NewFile writes a file and gives its name.
func (h *Host) NewFile(base, text string) string {
	h.t.Helper()
	h.files++
	file := filepath.Join(h.dir, fmt.Sprintf("%d-%s", h.files, base))
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		h.t.Fatal(err)
	}
	return file
}

// Bridge adds a bridge without an uplink, such as docker0. As long as nothing is
// connected to it, it has no carrier.
func (h *Host) Bridge(name string, addrs ...string) {
	h.t.Helper()
	h.IP("link add", name, "type bridge forward_delay 0")
	h.addrs(name, addrs)
	h.IP("link set", name, "up")
}

// Container makes a host whose only interface, eth0, is connected to a bridge of
// this host. The bridge's first address is its default route, and this host
// forwards packets.
func (h *Host) Container(name, bridge string, addrs ...string) *Host {
	h.t.Helper()
	c := h.n.Host(name)
	h.n.macs++
	veth := fmt.Sprintf("veth%d", h.n.macs)
	h.IP("link add", veth, "type veth peer name eth0 netns", fmt.Sprint(c.space.tid))
	h.IP("link set", veth, "master", bridge, "up")
	c.addrs("eth0", addrs)
	c.IP("link set eth0 up")
	for a := range strings.FieldsSeq(h.IP("-br addr show dev", bridge)) {
		if p, err := netip.ParsePrefix(a); err == nil && !p.Addr().IsLinkLocalUnicast() {
			family := "-4"
			if p.Addr().Is6() {
				family = "-6"
			}
			c.IP(family, "route add default via", p.Addr().String())
		}
	}
	h.Sysctl("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
	return c
}

// Masquerade hides the hosts behind this one: what it forwards to an interface
// has its own address there (IPv4). Published ports are next: see Publish.
func (h *Host) Masquerade(out string) {
	h.t.Helper()
	h.nft("add table ip nat")
	h.nft("add chain ip nat post { type nat hook postrouting priority 100 ; }")
	h.nft("add rule ip nat post oifname", out, "masquerade")
	h.Sysctl("net.ipv4.ip_forward=1")
}

// Publish forwards what comes to a port of an interface, as `docker -p` does:
// h.Publish("eth0", "udp dport 9899", "172.17.0.2:9899").
func (h *Host) Publish(in, match, to string) {
	h.t.Helper()
	h.nft("add table ip nat")
	h.nft("add chain ip nat pre { type nat hook prerouting priority -100 ; }")
	h.nft("add rule ip nat pre iifname", in, match, "dnat to", to)
}

// Reject answers what comes to this host with an ICMP error, as a firewall does:
// h.Reject("udp dport 9899", "icmp host-unreachable").
func (h *Host) Reject(match, with string) {
	h.t.Helper()
	h.nft("add table inet filter")
	h.nft("add chain inet filter in { type filter hook input priority 0 ; }")
	h.nft("add rule inet filter in", match, "reject with", with)
}

// nft runs nft, or leaves the test out.
func (h *Host) nft(rule ...string) {
	h.t.Helper()
	if _, err := exec.LookPath("nft"); err != nil {
		if os.Getenv("CI") != "" {
			h.t.Fatalf("no test may be left out in CI: NAT needs nftables: %v", err)
		}
		h.t.Skipf("LEFT OUT: NAT needs nftables: %v", err)
	}
	if _, err := h.Try("nft", strings.Join(rule, " ")); err != nil {
		if os.Getenv("IN_UML") != "" {
			h.t.Skipf("LEFT OUT: the lab's kernel has no NAT: %v", err)
		}
		h.t.Fatalf("[%s] %v", h.Name, err)
	}
}

// Do runs f in the host's network namespace. Goroutines that f starts are not
// there, sockets that it makes are, for good.
func (h *Host) Do(f func() error) error { return h.space.do(f) }

// Dial is [net.Dial] on the host, for an address without names.
func (h *Host) Dial(network, address string) (c net.Conn, err error) {
	return h.DialContext(context.Background(), network, address)
}

// DialContext is Dial for an [http.Transport].
func (h *Host) DialContext(ctx context.Context, network, address string) (c net.Conn, err error) {
	err = h.Do(func() error {
		c, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// ListenPacket is [net.ListenPacket] on the host.
func (h *Host) ListenPacket(network, address string) (c net.PacketConn, err error) {
	err = h.Do(func() error {
		c, err = net.ListenPacket(network, address)
		return err
	})
	return c, err
}

// Listen is [net.Listen] on the host.
func (h *Host) Listen(network, address string) (l net.Listener, err error) {
	err = h.Do(func() error {
		l, err = net.Listen(network, address)
		return err
	})
	return l, err
}

// Namespace is the file of the host's network namespace, for `ip link set eth0 netns`.
func (h *Host) Namespace() string {
	return fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), h.space.tid)
}

// Shell is a command that opens a shell on the host, while the test waits.
func (h *Host) Shell() string {
	return fmt.Sprintf("nsenter --net=/proc/%d/task/%d/ns/net --mount=/proc/%[1]d/task/%[2]d/ns/mnt bash", os.Getpid(), h.space.tid)
}
