package clients

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/rserpool/coredns-rserpool/asap/pu"
	"github.com/rserpool/coredns-rserpool/rserpool"
	"github.com/rserpool/coredns-rserpool/test/network"
)

// userEnv has a process of an ASAP user know what it is: this test's binary, run again.
const userEnv = "CLIENTS_USER"

// Resolve has a pool user (RFC 5352) on a host ask the registrar n times for one element of
// a pool, and counts the elements by identifier.
func Resolve(h *network.Host, pool string, n int) (map[uint32]int, error) {
	out, err := h.Try("env", fmt.Sprintf("%s=%s %d", userEnv, pool, n), os.Args[0])
	if err != nil {
		return nil, err
	}
	count := map[uint32]int{}
	return count, json.Unmarshal([]byte(out), &count)
}

// resolve is the process of an ASAP user.
func resolve(what string) error {
	pool, times, _ := strings.Cut(what, " ")
	var n int
	if _, err := fmt.Sscan(times, &n); err != nil {
		return err
	}
	u, err := pu.Open(pu.Config{Registrars: []string{Server}, Via: rserpool.ViaUDP})
	if err != nil {
		return err
	}
	defer u.Close()
	count := map[uint32]int{}
	for range n {
		r, err := u.Resolve(context.Background(), rserpool.PoolHandle(pool), 1)
		if err != nil {
			return err
		}
		count[uint32(r.Elements[0].ID)]++
	}
	return json.NewEncoder(os.Stdout).Encode(count)
}
