// Command coredns is CoreDNS with the rserpool plugin: every stock plugin that
// needs no cloud or Kubernetes SDK, or all of them with -tags allplugins.
package main

import (
	"fmt"
	"os"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"

	_ "github.com/rserpool/coredns-rserpool/plugin/rserpool"
)

// version is the version of this project, set by the linker.
var version = "unknown"

func main() {
	order, err := directives(dnsserver.Directives)
	if err == nil {
		err = dnsserver.SetDirectives(order)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "coredns:", err)
		os.Exit(1)
	}
	caddy.AppVersion = appVersion()
	coremain.Run()
}

// appVersion names both versions: -version prints "CoreDNS-1.15.0+rserpool-v0.1.0".
func appVersion() string { return coremain.CoreVersion + "+rserpool-" + version }
