package main

import (
	"encoding/hex"
	"unicode/utf8"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// jsonHandleHelp belongs into the help of the commands with --json.
const jsonHandleHelp = `In JSON, pool is the pool's handle. A handle can have any octets, and strings of JSON
cannot: if the handle is not UTF-8, pool has U+FFFD in place of what is not, and
pool_hex has all octets as hexadecimal digits. A shell gives them back to rsp by
"$(printf %s "$HEX" | xxd -r -p)".`

// jsonHandle is a pool handle in JSON.
type jsonHandle struct {
	Pool string `json:"pool"`
	// PoolHex has the octets of a handle that is not UTF-8.
	PoolHex string `json:"pool_hex,omitempty"`
}

func newJSONHandle(h rserpool.PoolHandle) jsonHandle {
	j := jsonHandle{Pool: string(h)}
	if !utf8.ValidString(j.Pool) {
		j.PoolHex = hex.EncodeToString([]byte(h))
	}
	return j
}
