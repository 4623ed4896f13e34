// Render is distributed computing with a pool: elements calculate tiles of a picture, and a
// job whose element dies goes on at another one, from its last cookie.
//
//	go run ./docs/examples/render keys > render.keys
//	go run ./docs/examples/render element -keys render.keys     (on as many computers as there are)
//	go run ./docs/examples/render draw mandelbrot.png
//
// See docs/distributed-computing.md.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/rserpool/coredns-rserpool/asap/cookie"
	"github.com/rserpool/coredns-rserpool/asap/pu"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "render:", err)
		os.Exit(1)
	}
}

// options are what elements and users have in common, and what one of them has.
type options struct {
	pool       string
	registrars []string
	local      []netip.AddrPort

	// of an element
	keys     string
	capacity int
	pace     time.Duration

	// of draw
	picture
	parallel int
}

const usage = "usage: render keys | render element [options] | render draw [options] FILE.png"

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("%s", usage)
	}
	switch args[0] {
	case "keys":
		fmt.Println(cookie.GenerateKey().Secret())
		return nil
	case "element", "draw":
	default:
		return fmt.Errorf("%s", usage)
	}
	var o options
	f := flag.NewFlagSet("render "+args[0], flag.ContinueOnError)
	f.StringVar(&o.pool, "pool", "render", "handle of the pool")
	f.Func("registrar", "`ADDRESS[:PORT]` of a registrar, default 127.0.0.1; more than one is possible", func(s string) error {
		o.registrars = append(o.registrars, s)
		return nil
	})
	f.Func("local", "`ADDRESS` to use, default all of this machine", func(s string) error {
		a, err := netip.ParseAddr(s)
		o.local = append(o.local, netip.AddrPortFrom(a, 0))
		return err
	})
	if args[0] == "element" {
		f.StringVar(&o.keys, "keys", "keys", "`FILE` with the keys of the pool's cookies, made by render keys")
		f.IntVar(&o.capacity, "capacity", 1, "how many `ROWS` are calculated at a time; so many jobs are a load of 100 %")
		f.DurationVar(&o.pace, "pace", 0, "least `TIME` for a row, to play a slow computer")
	} else {
		f.IntVar(&o.width, "width", 1200, "width in `PIXELS`")
		f.IntVar(&o.height, "height", 800, "height in `PIXELS`")
		f.IntVar(&o.tileRows, "tile", 25, "`ROWS` of a job")
		f.IntVar(&o.limit, "limit", 2000, "`ITERATIONS` of a pixel at most")
		f.IntVar(&o.parallel, "parallel", 16, "how many `JOBS` at a time")
	}
	if err := f.Parse(args[1:]); err != nil {
		return err
	}
	if args[0] == "element" && o.capacity < 1 {
		return fmt.Errorf("-capacity %d: an element calculates at least one row at a time", o.capacity)
	}
	if len(o.registrars) == 0 {
		o.registrars = []string{"127.0.0.1"}
	}
	if args[0] == "element" {
		return serve(ctx, o)
	}
	if f.NArg() != 1 || !strings.HasSuffix(f.Arg(0), ".png") {
		return fmt.Errorf("%s", usage)
	}
	return drawFile(ctx, o, f.Arg(0))
}

func drawFile(ctx context.Context, o options, name string) error {
	if err := o.check(); err != nil {
		return err
	}
	u, err := pu.Open(pu.Config{Registrars: o.registrars, Local: o.local})
	if err != nil {
		return err
	}
	defer u.Close()
	d := drawing{picture: o.picture, user: u, pool: rserpool.PoolHandle(o.pool), parallel: o.parallel}
	began := time.Now()
	if err := d.draw(ctx); err != nil {
		return err
	}
	slog.Info("the picture is done", "file", name, "took", time.Since(began).Round(time.Millisecond),
		"failovers", d.failovers.Load(), "rows calculated again", d.again.Load())
	return save(name, d.img)
}
