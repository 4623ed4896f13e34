# Hosts, links and captures for a shell in the kernel lab; source it:
#
#	test/lab/run-in-uml -- bash -c '. test/lab/net.sh
#		bridge; host a 10.99.0.1/24; host b 10.99.0.2/24
#		capture /tmp/x.pcap; on a ping -c 1 10.99.0.2; end_capture'
#
# Every host is a network namespace whose eth0, eth1, ... are ports of the
# bridge br0 in the guest's first namespace, where a capture sees each frame once.
[ "${IN_UML:-}" = 1 ] || { echo "net.sh: this is not the kernel lab: use test/lab/run-in-uml" >&2; exit 1; }
_links=0

# bridge: the network, empty.
bridge() {
	ip link add br0 type bridge forward_delay 0 mcast_snooping 0 &&
		sysctl -qw net.ipv6.conf.br0.disable_ipv6=1 &&
		ip link set br0 up promisc on
}

# link HOST IF ADDRESS/LEN...: one more interface of a host.
link() {
	local name=$1 if=$2 a six=1; shift 2
	_links=$((_links + 1))
	ip link add "port$_links" type veth peer name "$if" netns "$name" || return
	sysctl -qw "net.ipv6.conf.port$_links.disable_ipv6=1"
	for a; do case $a in *:*) six=0 ;; esac; done
	on "$name" sysctl -qw "net.ipv6.conf.$if.disable_ipv6=$six"
	for a; do
		case $a in *:*) set -- nodad ;; *) set -- ;; esac
		ip -n "$name" addr add "$a" dev "$if" "$@"
	done
	ip link set "port$_links" master br0 up
	ip -n "$name" link set "$if" up
	ip -n "$name" route add 224.0.0.0/4 dev "$if" 2>/dev/null || true
}

# host NAME ADDRESS/LEN...: a host with one interface, eth0.
host() {
	local name=$1; shift
	ip netns add "$name" || return
	# Each interface answers only for its own addresses, so that a cut link
	# is a cut path.
	on "$name" sysctl -qw net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2
	ip -n "$name" link set lo up
	link "$name" eth0 "$@"
}

# on HOST COMMAND...: run a command on a host. Set sysctls of SCTP before sockets exist.
on() { local name=$1; shift; ip netns exec "$name" "$@"; }

# cut HOST IF, mend HOST IF: set an interface down, and up again.
cut() { ip -n "$1" link set "$2" down; }
mend() { ip -n "$1" link set "$2" up; }

# encapsulate HOST: the host's kernel uses only SCTP in UDP (RFC 6951). A kernel leaves
# segmentation to the interface, a virtual interface leaves it to the receiver, and a
# receiver in user space cannot do it. So gso_max_size prevents segmentation.
encapsulate() {
	on "$1" sysctl -qw net.sctp.udp_port=9899 net.sctp.encap_port=9899 &&
		ip -n "$1" link set eth0 gso_max_size 1500
}

# capture FILE [FILTER]: record the bridge until end_capture.
capture() {
	tcpdump -Z root -i br0 -U -s 0 -w "$1" "${2:-sctp or udp or tcp}" 2>"$1.log" &
	_capture=$!
	until grep -q listening "$1.log"; do kill -0 $_capture || return; sleep 0.05; done
}
end_capture() { kill -INT "$_capture"; wait "$_capture" 2>/dev/null; sync; }
