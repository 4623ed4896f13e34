// Package network gives tests several hosts on one machine. A host is a network
// namespace (with its own mounts, so that /sys shows its own interfaces); what
// connects hosts is an Ethernet switch in the test's process, which can lose,
// delay and cut. It needs root, the command `ip` and /dev/net/tun; a test that
// calls [New] is left out where one is missing, with the reason, and fails there
// in CI (environment variable CI set). The kernel needs neither netem nor dummy
// interfaces nor tc actions.
//
//	n := network.New(t)
//	a := n.Host("a", "10.98.1.1/24", "fd98:1::1/64") // eth0 on the LAN n.LAN
//	b := n.Host("b", "10.98.1.2/24")
//	second := n.NewLAN()
//	eth1 := b.Link("eth1", second, "10.98.2.2/24")
//	a.Bridge("docker0", "172.17.0.1/16")             // without an uplink
//	c := a.Container("c", "docker0", "172.17.0.2/16") // behind it; default route to the bridge
//	a.Masquerade("eth0")                             // NAT; needs nftables
//
//	a.IP("route add default via 10.98.1.254")
//	b.IP("addr add fd98:1::2/64 dev eth0")           // see below on DAD
//	a.Sysctl("net.ipv6.conf.all.disable_ipv6=1")
//	a.File("/etc/resolv.conf", "nameserver 10.98.1.2\n")
//
//	eth1.Down()                                      // ip link set eth1 down
//	eth1.Unplug()                                    // the carrier is lost
//	eth1.Wire(network.Wire{Dead: true})              // and the hosts do not notice
//	eth1.Wire(network.Wire{Loss: 0.1, Delay: 100 * time.Millisecond})
//	eth1.Wire(network.Wire{MTU: 1200})               // larger packets vanish, without an ICMP message
//	n.LAN.Cut([]*network.Host{a}, []*network.Host{b})
//	n.LAN.Mend()
//	n.LAN.Watch(func(frame []byte) bool { return keep(frame) })
//
//	p := a.Start("sleep", "1000")                    // ended with the test, and all that it has started
//	                                                 // (if the test fails, its output is shown)
//	p.WaitFor("text")                                // anywhere in the output
//	p.Next("text")                                   // behind what the last Next found
//	p.Signal(syscall.SIGTERM)
//	code := p.Wait()
//	text := a.Run("ip", "-br", "addr")               // must succeed
//	a.CoreDNS(corefile)                              // the module's own programs, built if need be
//	a.RSP("register", ...)
//	self := a.Command(os.Args[0]); self.Env = ...    // another program, or the test's own
//	p = a.StartCommand(self)
//
//	err := a.Do(func() error { ... })                // this process, in the namespace
//	conn, err := a.Dial("udp", "10.98.1.2:53")
//	list, err := a.Lookup("10.98.1.2", "web.pool.example.org.", dns.TypeSRV)
//
// A socket belongs to the namespace in which it was made, for good. Do runs its
// function on a thread in the namespace; goroutines that the function starts are
// not there. So a library that makes sockets later needs a process of its own:
// the test binary again, by Command and StartCommand.
//
// Hosts do no duplicate address detection, so that IPv6 addresses can be used at
// once. For a test of it: h.Sysctl("net.ipv6.conf.eth0.accept_dad=1"), then h.IP
// with an address (without nodad) is tentative for about a second.
//
// Namespaces have no names and live as long as their processes, which end with
// the test's process: nothing is left behind, whatever ends it (but for the
// COMMAND of an rsp if the test's process is killed), and tests and packages run in
// parallel. To look into a host while a test waits: the path that
// [Host.Shell] gives. With NETWORK_PCAP=DIR in the environment all frames of a
// LAN are written to DIR/TEST-NUMBER.pcap.
//
// With RSERPOOL_BIN=DIR the tests run the coredns and rsp in DIR, such as those of an
// earlier commit, which a new test has to fail with.
//
// The lab (test/lab) has /dev/net/tun after
// `modprobe -d "$UML_MODPROBE_DIR" tun`, which [New] does there, and no NAT.
package network
