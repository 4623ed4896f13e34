package main

// registerHelp is the long help of rsp register.
func registerHelp() string {
	return `Make a server on this machine an element of a pool, for as long as rsp runs.

rsp registers the element, renews the registration, and acknowledges the registrar's
keep-alives. If a registrar fails or has no room, rsp registers with the next one. A
registrar that has just started has no room for up to 10 s: for 30 s, rsp tries again every
1 to 3 s. If another registrar takes the element over, rsp registers there. Without
COMMAND, SIGTERM, SIGINT, SIGQUIT and SIGHUP deregister the element and end rsp.

If the registrar restarts, rsp notices when the next keep-alive is overdue (after about
2 s), and registers again. While the registrar is down, rsp tries to connect every 2 s,
and after 5 minutes less often, at least once a minute. rsp logs when it tries again if
that takes more than 5 s. If the registrar is lost within 10 s after the registration,
four times in a row, rsp waits about 2 s before it connects again. A registrar that has
kept its state (the option state of its Corefile) calls rsp instead: rsp logs "has called
... back", and the registration stands.

If a registrar refuses the first registration because of the element itself, for
example because its policy differs from the pool's, rsp ends. If another element uses
the --id, rsp retries for 75 s first: that element may have died. Later no refusal ends
rsp: not after a registration has succeeded, and not if the first refusal comes more
than 10 s after the start of rsp, or after the first --check that passes. rsp logs the
reason, tries the other registrars, and retries after at most a minute.

With COMMAND, rsp runs the server. The element is registered while COMMAND runs, and
rsp ends as COMMAND does: with COMMAND's exit status, or by the signal that rsp passed on
and that ended COMMAND. A shell shows that as 128+N, and a service manager does not take
SIGTERM for a failure. Only three things end COMMAND: COMMAND itself, the user's signals,
and such a refusal of the first registration. rsp then logs "ending the command", with
the reason.

COMMAND must stay in the foreground. If COMMAND starts a daemon and exits, rsp
deregisters the element and ends with status 0 while the daemon runs on. Most servers
have an option for this, such as nginx -g 'daemon off;'.

Signals are passed on to COMMAND. SIGTERM, SIGINT and SIGQUIT are passed on after the
deregistration and the time of --drain. A second signal is passed on at once, unless it
is the same signal within 250ms. Clients keep a DNS answer for its TTL: set --drain to
the TTL, so that the server still answers clients that use an old answer. SIGHUP is
passed on at once, and the element stays registered. Signals that rsp was started to
ignore, for example by nohup, stay ignored by rsp and COMMAND.

These signals are not passed on: SIGCHLD, SIGPIPE, SIGPROF, SIGURG, SIGXCPU and SIGXFSZ,
which the kernel or Go's runtime sends rsp on its own account; SIGRTMIN (signal 34), which
belongs to C libraries; and if rsp has a terminal, SIGTTIN and SIGTTOU. Signals of a
failure of the program (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGSTKFLT) end
rsp. SIGSTOP stops only rsp.

COMMAND has a process group of its own. SIGINT and SIGQUIT are sent to the whole group,
as Ctrl-C and Ctrl-\ are without rsp, and so is SIGHUP when the terminal is closed.
Other signals are sent only to COMMAND. When SIGTERM, SIGINT, SIGQUIT or SIGHUP from rsp
has ended COMMAND, rsp sends SIGTERM to the rest of the group, so that a start script
leaves no server behind. A start script should still end with exec SERVER, because rsp
waits only for COMMAND. A daemon that leaves the group (setsid) runs on. If COMMAND ends
on its own, the rest of its group runs on. If rsp is killed (kill -9), COMMAND gets
SIGTERM, but the rest of its group does not.

If COMMAND still runs 10s after SIGTERM, SIGINT or SIGQUIT, rsp logs that and leaves the
element deregistered, because COMMAND may be about to end. SIGCONT to rsp registers the
element again. Send a signal that does not end the server, such as SIGQUIT for the
threads of a Java program, to the server and not to rsp.

If COMMAND reads from the terminal and rsp is in the foreground, COMMAND gets the
terminal; Ctrl-C and Ctrl-Z then reach COMMAND directly. While COMMAND is stopped, the
element is not registered. If COMMAND does not read from the terminal, Ctrl-Z
deregisters the element, waits up to 1s for that, and stops COMMAND's group and rsp.
When rsp continues (fg, bg), COMMAND's group continues, and rsp registers the element
again. Without COMMAND, Ctrl-Z stops only rsp: after a missed keep-alive the element is a
suspect, which leaves the answers while its pool has other elements. It is back when rsp
continues.

If rsp is process 1 of a container, it also reaps orphaned processes.

In a systemd unit, set KillMode=mixed: systemd then sends SIGTERM only to rsp, and rsp
passes it on. With Type=notify, the unit waits until somebody tells systemd READY=1:
  - With --notify, rsp does so when the element is registered for the first time. rsp
    also sends STATUS= with each change, and STOPPING=1 when the end begins. COMMAND
    does not get NOTIFY_SOCKET. Without COMMAND, rsp does so in any case.
  - Without --notify, COMMAND must do so (also for WatchdogSec=). Set NotifyAccess=all
    too: otherwise systemd ignores COMMAND, which is not the main process, and ends it
    after some time.
LISTEN_PID and WATCHDOG_PID, which name rsp, name COMMAND in COMMAND's environment.
docs/systemd.md has units.

If the log cannot be written, because the reader of the pipe hangs or has ended, rsp and
COMMAND run on. rsp counts the lost lines, and logs the number when it can write again.

If this machine has no address, or no registrar answers, COMMAND runs on, and rsp
retries the registration.

Restart without a gap:
  Start a second rsp with the same --id on the same machine. When the second rsp has
  registered, send SIGTERM to the first. The second rsp takes the element's place at
  once, and the deregistration of the first removes nothing. While both run, clients get
  the second. If the first renews its registration, it logs "another process has
  registered"; if the second ends, the first takes the place again. If the --id is
  registered from another machine, the second rsp waits until the former element has
  missed a keep-alive.

Addresses:
  Without --address, rsp registers the address from which it reaches the registrars. It
  reads that address every 2 s. If the address changes (a new DHCP lease, another IPv6
  prefix), rsp registers the element from the new address, with the same identifier.
  If there are several IPv6 addresses, rsp takes a stable one rather than a temporary
  one. A loopback address is registered only if the registrar is on the loopback too.
  If rsp is behind a NAT or in a container and uses SCTP in UDP, the registrar registers
  the address from which it receives rsp's packets in place of the private one, and rsp
  logs both. --advertise ADDRESS registers an address that this machine does not have;
  rsp's packets must reach the registrar from that address.

Policies, their short names and their values:
` + policyHelp() + `
  Write one value after a colon, and several values by name:
    WeightedRoundRobin:7   LeastUsed:0.25   LUD:load=20%,degradation=5%
  Weights and priorities are whole numbers (default 1 and 0). Loads, degradations and
  dpf are fractions, 0 to 1 or 0% to 100% (default 0). All elements of a pool have the
  same policy; their values may differ.

Checks (--check):
  tcp, tcp:HOST:PORT      connect; without HOST:PORT to the served address
  http://HOST:PORT/PATH   GET, and a status of 2xx or 3xx; https too
  http:/PATH              the same at the served address and port
  cmd:COMMAND             a shell command that exits with status 0
  https:/PATH asks an IP address, for which most certificates are not valid: use
  https://NAME:PORT/PATH, or cmd:curl -fk https://localhost:PORT/PATH.
  A check that takes longer than --check-timeout has failed. If this machine cannot make
  a check (no more processes, memory, files or ports), rsp logs that and does not count
  the check. The element is registered when the check passes, deregistered when the check
  fails --check-fail times in a row, and registered again when the check passes
  --check-rise times in a row. While the element is not registered, rsp logs why the check
  fails: another reason after at least 1 s, and the same reason each minute.

Loads (--load), for the policies with a load:
  fixed                   the load given with --policy
  cpu                     the fraction of the time that this machine's processors work
  file:PATH, cmd:COMMAND  a fraction in a file, or printed by a shell command
  A load that has changed by --load-threshold is sent to the registrar at once. A source
  must give a value within --load-interval, but has at least 1s and at most 10s. If the
  source gives no value, rsp keeps the last value, which is that of --policy at first. The
  first registration waits 2s for a value.

Commands of checks and loads may print 64 KiB. When such a command ends, all processes
of its process group are ended. If rsp is killed (kill -9), only the shell that runs the
command is killed.

Registration life:
  RFC 5354 counts it in seconds, the reference implementation RSPLIB in milliseconds.
  The default is sent as 90000, which works with both: as milliseconds it is 90 s, as
  seconds 25 h, and rsp renews the registration every 30 s. Keep-alives detect a dead
  element long before that. --life-unit selects the unit.

` + registrarsHelp + `
  A registrar that takes over from a failed one connects to the address and port from
  which the element registered. If it connects by SCTP in UDP and does not know the
  element's UDP port, it uses 9899: --encap 9899 binds that port, if no other program
  on this machine needs it. Otherwise the element registers with the next --registrar on
  its own.

` + tlsHelp + "\n\n" + exitHelp + `
  With COMMAND: COMMAND's exit status, 128+N if signal N ended COMMAND, 126 or 127 if
  COMMAND could not be run. If rsp passed signal N on, the signal ends rsp too, except as
  process 1.`
}

const registerExample = `  # a web server that listens on port 8080 already
  rsp register --pool web --serve tcp:8080

  # run the server, and register it while it answers
  rsp register --pool web --serve tcp:8080 --check http:/health -- ./server -port 8080

  # three times the share of an element with weight 1, two registrars
  rsp register -p web -s tcp:8080 --policy WeightedRoundRobin:3 -r 192.0.2.1 -r 192.0.2.2

  # the least busy machine first
  rsp register -p jobs -s sctp:5001 --policy LeastUsed --load cpu

  # an SCTP server with two addresses
  rsp register -p jobs -s sctp:5001 --address 192.0.2.11 --address 2001:db8::11`
