// Web is a pool of HTTP servers with two kinds of clients: ordinary ones, which find the
// servers by DNS, and native ones, which ask a registrar.
//
//	go run ./docs/examples/web server -address 127.0.0.11     (and more servers, at other addresses)
//	go run ./docs/examples/web load
//
// See docs/http-pool.md.
package main

import (
	"context"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "web:", err)
		os.Exit(1)
	}
}

// options are what servers and the load have in common, and what one of them has.
type options struct {
	pool       string
	registrars []string
	address    netip.Addr
	port       int

	// of the load
	dns, zone string
	rate      int
	length    time.Duration
}

const usage = "usage: web server [options] | web load [options]"

func run(ctx context.Context, args []string) error {
	if len(args) == 0 || args[0] != "server" && args[0] != "load" {
		return fmt.Errorf("%s", usage)
	}
	o := options{address: netip.MustParseAddr("127.0.0.1")}
	f := flag.NewFlagSet("web "+args[0], flag.ContinueOnError)
	f.StringVar(&o.pool, "pool", "site", "handle of the pool")
	f.Func("registrar", "`ADDRESS[:PORT]` of a registrar, default 127.0.0.1; more than one is possible", func(s string) error {
		o.registrars = append(o.registrars, s)
		return nil
	})
	f.TextVar(&o.address, "address", o.address, "`ADDRESS` of this machine to use")
	f.IntVar(&o.port, "port", 8080, "TCP `PORT` of the servers: DNS clients that ask for A know no other")
	if args[0] == "load" {
		f.StringVar(&o.dns, "dns", "127.0.0.1:1053", "`ADDRESS:PORT` of the DNS server")
		f.StringVar(&o.zone, "zone", "pool.example.org", "`ZONE` of the pools")
		f.IntVar(&o.rate, "rate", 200, "`REQUESTS` a second of each client")
		f.DurationVar(&o.length, "for", 10*time.Second, "how long")
	}
	if err := f.Parse(args[1:]); err != nil {
		return err
	}
	if f.NArg() > 0 || args[0] == "load" && o.rate < 1 {
		return fmt.Errorf("%s", usage)
	}
	if len(o.registrars) == 0 {
		o.registrars = []string{"127.0.0.1"}
	}
	if args[0] == "server" {
		return serve(ctx, o)
	}
	return compare(ctx, o)
}
