package pure

const module = "github.com/rserpool/coredns-rserpool/"

// Cores are the protocol cores and the codecs: events and the time go in, actions
// come out, and the same events give the same actions.
var Cores = map[string]Core{
	module + "asap":                        {},
	module + "internal/tlv":                {},
	module + "asap/pe":                     {Drivers: []string{"ask.go", "config.go", "conn.go", "element.go", "listener.go", "notifier.go", "serve.go", "session.go"}},
	module + "asap/pu":                     {Drivers: []string{"cache.go", "config.go", "select.go", "sendall.go", "session.go", "sessioncall.go", "sessionconn.go", "sessionrun.go", "sessions.go", "stream.go", "streamdial.go", "user.go"}},
	module + "enrp":                        {},
	module + "internal/identity":           {},
	module + "internal/hunt":               {},
	module + "internal/services":           {},
	module + "internal/session":            {},
	module + "registrar":                   {},
	module + "registrar/handlespace":       {Locks: true}, // DNS queries read it from many goroutines
	module + "registrar/internal/chain":    {},
	module + "registrar/internal/deadline": {},
	module + "registrar/internal/slab":     {},
	module + "registrar/internal/slots":    {},
	module + "registrar/internal/ledger":   {},
	module + "rserpool":                    {},
}
