package tlv

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rserpool/coredns-rserpool/internal/tlv/tlvtest"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestRefused reads parameters that are wrong.
func TestRefused(t *testing.T) {
	const transport = "0004 0010 1389 0000 0001 0008 c0000201"
	tests := []struct {
		name string
		hex  string
		text string // in the error
		at   Type
		info string // of the error cause; "" if all of the parameter
	}{
		{"length less than a header", "0009 0003 61626364", "length field says 3", TypePoolHandle, "0009 0003"},
		{"length too long", "0009 000d 61626364", "length field says 13, but 8 bytes are left", TypePoolHandle, ""},
		{"stray bytes", "0009 0005 61 000000 0009 00", "3 stray bytes", 0, "0100 000f 0009 0005 61 000000 0009 00"},
		{"empty pool handle", "0009 0004", "at least one byte", TypePoolHandle, ""},
		{"PE identifier too short", "000e 0007 00000100", "ends 1 bytes too early", TypePEIdentifier, ""},
		{"PE identifier too long", "000e 0009 00000001 02", "1 bytes too many", TypePEIdentifier, ""},
		{"PE checksum too long", "000f 0008 20d30000", "2 bytes too many", TypePEChecksum, ""},
		{"items too short", "803f 0004", "too early", TypeHandleResolutionItems, ""},

		{"no address", "0004 0008 1389 0000", "without an address", TypeSCTPTransport, ""},
		{"no fields", "0005 0004", "too early", TypeTCPTransport, ""},
		{"no service code", "0003 0008 1389 0000", "too early", TypeDCCPTransport, ""},
		{"TCP with two addresses", "0005 0018 0050 0000 0001 0008 c0000201 0001 0008 c0000202", "more than one address", TypeTCPTransport, ""},
		{"transport use 2", "0004 0010 1389 0002 0001 0008 c0000201", "transport use", TypeSCTPTransport, ""},
		{"IPv4 address too short", "0004 000f 1389 0000 0001 0007 c00002", "too early", TypeIPv4Address, "0001 0007 c00002"},
		{"IPv4 address too long", "0004 0014 1389 0000 0001 000c c0000201 c0000202", "4 bytes too many", TypeIPv4Address, "0001 000c c0000201 c0000202"},
		{"IPv6 address too short", "0004 0010 1389 0000 0002 0008 c0000201", "too early", TypeIPv6Address, "0002 0008 c0000201"},
		{"address goes beyond the transport", "0004 0010 1389 0000 0001 0009 c0000201", "8 bytes are left", TypeIPv4Address, "0001 0009 c0000201"},
		{"pool handle in a transport", "0004 0010 1389 0000 0009 0008 61626364", "not allowed", TypePoolHandle, "0009 0008 61626364"},

		{"policy without a type", "0008 0004", "too early", TypePolicy, ""},
		{"policy without its weight", "0008 0008 00000002", "too early", TypePolicy, ""},
		{"policy with half of its values", "0008 0016 b0002003 00000001 00000002 00000003 0000", "too early", TypePolicy, ""},
		{"policy type 0", "0008 0008 00000000", "reserved", TypePolicy, ""},
		{"policy type 0x40000000", "0008 0008 40000000", "reserved", TypePolicy, ""},

		{"pool element too short", "000a 000f 00000001 00000002 000003", "too early", TypePoolElement, ""},
		{"two policies", "000a 0020 00000001 00000000 00000000 0008 0008 00000001 0008 0008 00000003", "second one", TypePolicy, "0008 0008 00000003"},
		{
			"ASAP transport is not SCTP", "000a 0030 00000001 00000000 00000000 " + transport + "0005 0010 1389 0000 0001 0008 c0000201",
			"not SCTP", TypeTCPTransport, "0005 0010 1389 0000 0001 0008 c0000201",
		},
		{"third transport", "000a 0040 00000001 00000000 00000000 " + transport + transport + transport, "third transport", TypeSCTPTransport, transport},
		{"pool handle in a pool element", "000a 0018 00000001 00000000 00000000 0009 0008 61626364", "not allowed", TypePoolHandle, "0009 0008 61626364"},

		{"server information without a transport", "000b 0008 00000001", "SCTP Transport parameter is missing", TypeServerInformation, ""},
		{"server information with TCP", "000b 0018 00000001 0005 0010 1389 0000 0001 0008 c0000201", "not allowed", TypeTCPTransport, "0005 0010 1389 0000 0001 0008 c0000201"},
		{"server information with two transports", "000b 0028 00000001" + transport + transport, "second one", TypeSCTPTransport, transport},

		{"no error cause", "000c 0004", "no error cause", TypeOperationError, ""},
		{"error cause goes beyond the end", "000c 0008 0003 0008", "4 bytes are left", Type(rserpool.CauseInvalidValues), "0003 0008"},
		{"error cause shorter than a header", "000c 0008 0003 0000", "length field says 0", Type(rserpool.CauseInvalidValues), "0003 0000"},
		{"half an error cause", "000c 0006 0003", "2 stray bytes", TypeOperationError, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			msg := message(tlvtest.Unhex(t, tt.hex))
			c := NewCursor(msg)
			for c.Next() {
				read(&c)
			}
			reports, err := c.Finish()
			var pe *rserpool.ParseError
			if !errors.As(err, &pe) {
				t.Fatalf("error is %v, want a *ParseError", err)
			}
			if !strings.Contains(err.Error(), tt.text) || errors.Unwrap(err) == nil {
				t.Errorf("error is %q, want one with %q and something to unwrap", err, tt.text)
			}
			info := tlvtest.Unhex(t, tt.info)
			if tt.info == "" {
				info = msg[4:]
			}
			want := rserpool.Cause{Code: rserpool.CauseInvalidValues, Info: info}
			if diff := cmp.Diff(want, pe.ErrorCause()); diff != "" || !pe.Report || pe.Param != tt.at || reports != nil {
				t.Errorf("error %q: report %v, parameter %v, reports %v, want true, %v, none; cause (-want +got):\n%s",
					err, pe.Report, pe.Param, reports, tt.at, diff)
			}
			if at := msg[pe.Offset:]; !slices.Equal(pe.Bytes, at[:len(pe.Bytes)]) {
				t.Errorf("offset %d is not where the bytes %x are", pe.Offset, pe.Bytes)
			}
		})
	}
}

// TestUnknownParameters: the two high bits of the type decide (RFC 5354,
// Section 3), in the message and inside a container.
func TestUnknownParameters(t *testing.T) {
	tests := []struct {
		typ          string
		stop, report bool
	}{
		{"0123", true, false},
		{"0011", true, false}, // the first one that RFC 5354 does not assign
		{"0000", true, false},
		{"4123", true, true},
		{"8123", false, false},
		{"c123", false, true},
		{"ffff", false, true},
	}
	for _, place := range []struct{ name, before string }{
		{"in the message", ""},
		{"in a pool element", "000a 0018 00000001 00000000 00000000"},
		{"in server information", "000b 0020 00000001 0004 0010 1389 0000 0001 0008 c0000201"},
		{"in a transport", "0004 0018 1389 0000 0001 0008 c0000201"},
	} {
		for _, tt := range tests {
			t.Run(tt.typ+" "+place.name, func(t *testing.T) {
				c := NewCursor(message(tlvtest.Unhex(t, place.before+tt.typ+"0008 61626364")))
				for c.Next() {
					read(&c)
				}
				reports, err := c.Finish()
				want := []rserpool.Cause{{Code: rserpool.CauseUnrecognizedParameter, Info: tlvtest.Unhex(t, tt.typ+"0008 61626364")}}
				if !tt.report {
					want = nil
				}
				if !tt.stop {
					if diff := cmp.Diff(want, reports); diff != "" || err != nil {
						t.Errorf("Finish(): %v, reports (-want +got):\n%s", err, diff)
					}
					return
				}
				var pe *rserpool.ParseError
				if !errors.As(err, &pe) || pe.Cause != rserpool.CauseUnrecognizedParameter || pe.Report != tt.report {
					t.Fatalf("error is %#v, want an unrecognized parameter, report %v", err, tt.report)
				}
				if diff := cmp.Diff(want, pe.Causes()); diff != "" {
					t.Errorf("Causes() (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// TestReportsAreBounded: whatever comes, the error reply fits.
func TestReportsAreBounded(t *testing.T) {
	var params []byte
	for range 100 {
		params = append(params, tlvtest.Unhex(t, "c123 0005 61 000000")...)
	}
	c := NewCursor(message(params))
	for c.Next() {
		c.Unknown(nil)
	}
	if reports, err := c.Finish(); err != nil || len(reports) != maxReports {
		t.Errorf("%d reports, error %v, want %d and none", len(reports), err, maxReports)
	}

	long := make([]byte, 65520)
	copy(long, tlvtest.Unhex(t, "4123 fff0"))
	c = NewCursor(message(long))
	for c.Next() {
		c.Unknown(nil)
	}
	_, err := c.Finish()
	var pe *rserpool.ParseError
	if !errors.As(err, &pe) || !slices.Equal(pe.Bytes, long[:maxExcerpt]) {
		t.Fatalf("error %v does not carry the first %d bytes", err, maxExcerpt)
	}

	// The worst case: as many reports as may be, as long as may be.
	var worst []rserpool.Cause
	for range maxReports + 1 {
		worst = append(worst, pe.ErrorCause())
	}
	w := begin(nil)
	w.Causes(worst)
	if b, err := w.Finish(); err != nil || len(b) > maxLen-12 {
		t.Errorf("the longest error takes %d bytes, error %v: want at most %d", len(b), err, maxLen-12)
	}
}

// TestEarlierReports: what was skipped before an error is reported with it.
func TestEarlierReports(t *testing.T) {
	for _, tt := range []struct {
		name, hex string
		quiet     bool
		want      []rserpool.CauseCode
	}{
		{"report", "c123 0004 0009 0004", false, []rserpool.CauseCode{rserpool.CauseUnrecognizedParameter, rserpool.CauseInvalidValues}},
		{"no report of its own", "c123 0004 0123 0004", false, []rserpool.CauseCode{rserpool.CauseUnrecognizedParameter}},
		{"silence", "c123 0004 0009 0004", true, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := NewCursor(message(tlvtest.Unhex(t, tt.hex)))
			if tt.quiet {
				c.Silence()
			}
			for c.Next() {
				read(&c)
			}
			_, err := c.Finish()
			var pe *rserpool.ParseError
			if !errors.As(err, &pe) {
				t.Fatalf("error is %v, want a *ParseError", err)
			}
			var got []rserpool.CauseCode
			for _, c := range pe.Causes() {
				got = append(got, c.Code)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("Causes() = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestMessageFrame(t *testing.T) {
	tests := []struct {
		name, hex, text string // text in the error, "" for none
	}{
		{"nothing", "", "0 bytes are not a message"},
		{"three bytes", "010000", "3 bytes are not a message"},
		{"only a header", "01000004", ""},
		{"length too short", "01000003", "length field says 3"},
		{"length too long", "01000005", "length field says 5, but the message has 4 bytes"},
		{"three bytes of padding", "01000009 00090005 61 ffffff", ""},
		{"padding missing", "01000009 00090005 61", ""},
		{"four bytes follow", "01000008 00090004 00000000", "4 bytes follow"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := NewCursor(tlvtest.Unhex(t, tt.hex))
			for c.Next() {
				c.open()
				c.rest()
			}
			_, err := c.Finish()
			if tt.text == "" && err != nil || tt.text != "" && (err == nil || !strings.Contains(err.Error(), tt.text)) {
				t.Errorf("error is %v, want %q", err, tt.text)
			}
		})
	}
}

// TestUnread: a message is read to its end.
func TestUnread(t *testing.T) {
	c := NewCursor(message(tlvtest.Unhex(t, "0009 0005 61 000000")))
	if _, err := c.Finish(); err == nil || !strings.Contains(err.Error(), "8 bytes too many") {
		t.Errorf("error is %v, want one about 8 bytes too many", err)
	}
}

// TestPaddingBetween: what follows a parameter with padding begins behind it.
func TestPaddingBetween(t *testing.T) {
	for _, tt := range parameters {
		w := BeginMessage(nil, 1, 0)
		w.PoolHandle("a")
		write(&w, tt.value)
		w.Uint32(0x00090004) // a field behind it all, which looks like a parameter
		b, err := w.Finish()
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		want := message(tlvtest.Unhex(t, "0009 0005 61 000000"+tt.hex+"\n 0009 0004"))
		if diff := cmp.Diff(hex.EncodeToString(want), hex.EncodeToString(b)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

// TestUnwritable: what Parse would refuse, or what no length field can hold,
// is not written.
func TestUnwritable(t *testing.T) {
	tests := []struct {
		name  string
		value any
		text  string
	}{
		{"empty pool handle", rserpool.PoolHandle(""), "empty pool handle"},
		{"pool handle too long", rserpool.PoolHandle(make([]byte, 65532)), "65536 bytes"},
		{"cookie too long", cookie(make([]byte, 70000)), "70004 bytes"},
		{"no transport", rserpool.Transport{}, "not a transport"},
		{"transport of another type", rserpool.Transport{Type: 0x8, Addrs: []netip.Addr{v4}}, "not a transport"},
		{"no address", rserpool.Transport{Type: rserpool.SCTP}, "without an address"},
		{"TCP with two addresses", rserpool.Transport{Type: rserpool.TCP, Addrs: []netip.Addr{v4, v6}}, "more than one address"},
		{"TCP with control", rserpool.Transport{Type: rserpool.TCP, Use: rserpool.DataPlusControl, Addrs: []netip.Addr{v4}}, "data plus control"},
		{"transport use 2", rserpool.Transport{Type: rserpool.SCTP, Use: 2, Addrs: []netip.Addr{v4}}, "transport use"},
		{"invalid address", rserpool.Transport{Type: rserpool.SCTP, Addrs: []netip.Addr{{}}}, "invalid address"},
		{"address with a zone", rserpool.Transport{Type: rserpool.SCTP, Addrs: []netip.Addr{netip.MustParseAddr("fe80::1%eth0")}}, "zone"},
		{"too many addresses", rserpool.Transport{Type: rserpool.SCTP, Addrs: slices.Repeat([]netip.Addr{v6}, 3277)}, "65548 bytes"},
		{"ASAP transport alone", rserpool.PoolElement{ASAPTransport: sctp1}, "no user transport"},
		{"ASAP transport is not SCTP", rserpool.PoolElement{
			UserTransport: sctp1, ASAPTransport: rserpool.Transport{Type: rserpool.TCP, Addrs: []netip.Addr{v4}},
		}, "not SCTP"},
		{"server transport missing", rserpool.ServerInformation{ID: 1}, "not SCTP"},
		{"server transport is not SCTP", rserpool.ServerInformation{Transport: rserpool.Transport{Type: rserpool.TCP, Addrs: []netip.Addr{v4}}}, "not SCTP"},
		{"policy type 0", rserpool.Policy{}, "reserved"},
		{"policy type 0x40000000", rserpool.Policy{Type: 0x40000000}, "reserved"},
		{"policy too long", rserpool.Policy{Type: rserpool.RoundRobin, Extra: string(make([]byte, 65528))}, "65536 bytes"},
		{"error cause too long", []rserpool.Cause{{Code: 0, Info: make([]byte, 65532)}}, "65536 bytes"},
		{"error causes too long", slices.Repeat([]rserpool.Cause{{Code: 0, Info: make([]byte, 30000)}}, 3), "90016 bytes"},
		{"unknown parameter that is known", []rserpool.Parameter{{Type: TypePoolHandle}}, "could not skip"},
		{"unknown parameter that stops", []rserpool.Parameter{{Type: 0x4123}}, "could not skip"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, w := range []Builder{BeginMessage([]byte("before"), 1, 0), begin([]byte("before"))} {
				write(&w, tt.value)
				b, err := w.Finish()
				if err == nil || !strings.Contains(err.Error(), tt.text) || string(b) != "before" {
					t.Errorf("Finish() gives %.80q, %v, want the buffer as it was and an error with %q", b, err, tt.text)
				}
			}
		})
	}
}

// TestLongestMessage fills a message to its last byte, and one more.
func TestLongestMessage(t *testing.T) {
	for _, n := range []int{65524, 65525, 65526, 65527} {
		w := BeginMessage(nil, 1, 0)
		w.PoolHandle(rserpool.PoolHandle(make([]byte, n)))
		b, err := w.Finish()
		if err != nil {
			t.Errorf("handle of %d bytes: %v", n, err)
			continue
		}
		if len(b)%4 != 0 || int(binary.BigEndian.Uint16(b[2:])) < 8+n {
			t.Errorf("handle of %d bytes: %d bytes with header %x", n, len(b), b[:4])
		}
		c := NewCursor(b)
		c.Next()
		if got := c.PoolHandle(); len(got) != n {
			t.Errorf("handle of %d bytes: read %d bytes again", n, len(got))
		}
		if _, err := c.Finish(); err != nil {
			t.Errorf("handle of %d bytes: %v", n, err)
		}
	}
	w := BeginMessage([]byte("before"), 1, 0)
	w.PoolHandle(rserpool.PoolHandle(make([]byte, 65528)))
	if b, err := w.Finish(); err == nil || !strings.Contains(err.Error(), "65536 bytes") || string(b) != "before" {
		t.Errorf("message of 65536 bytes: %d bytes, %v, want an error", len(b), err)
	}
}

func TestAppendFunctions(t *testing.T) {
	e := rserpool.PoolElement{ID: 1, Life: -1}
	tests := []struct {
		name string
		add  func([]byte) ([]byte, error)
		want string
	}{
		{"PoolHandle", func(b []byte) ([]byte, error) { w := begin(b); w.PoolHandle("a"); return w.Finish() }, "0009 0005 61 000000"},
		{"PEID", func(b []byte) ([]byte, error) { w := begin(b); w.PEID(1); return w.Finish() }, "000e 0008 00000001"},
		{"AppendPolicy", func(b []byte) ([]byte, error) { return AppendPolicy(b, rserpool.Policy{Type: rserpool.Random}) }, "0008 0008 00000003"},
		{"AppendTransport", func(b []byte) ([]byte, error) { return AppendTransport(b, &sctp1) }, "0004 0010 1389 0000 0001 0008 c0000201"},
		{"AppendPoolElement", func(b []byte) ([]byte, error) { return AppendPoolElement(b, &e) }, "000a 0010 00000001 00000000 ffffffff"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, err := tt.add([]byte{0xff})
			if want := "ff" + hex.EncodeToString(tlvtest.Unhex(t, tt.want)); err != nil || hex.EncodeToString(b) != want {
				t.Errorf("got %x, %v, want %s", b, err, want)
			}
		})
	}
}
