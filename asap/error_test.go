package asap

import (
	"testing"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

func TestErrorRefuses(t *testing.T) {
	parameter := func(info ...byte) rserpool.Cause {
		return rserpool.Cause{Code: rserpool.CauseUnrecognizedParameter, Info: info}
	}
	message := func(info ...byte) rserpool.Cause {
		return rserpool.Cause{Code: rserpool.CauseUnrecognizedMessage, Info: info}
	}
	security := rserpool.Cause{Code: rserpool.CauseSecurity}
	for _, c := range []struct {
		name   string
		causes []rserpool.Cause
		want   bool
	}{
		{"a parameter that was skipped", []rserpool.Cause{parameter(0xc1, 0x23, 0, 4)}, false},
		{"a parameter that is not named", []rserpool.Cause{parameter()}, false},
		{"a parameter where the receiver stopped", []rserpool.Cause{parameter(0x41, 0x23, 0, 4)}, true},
		{"another message", []rserpool.Cause{message(byte(TypeEndpointKeepAliveAck), 0, 0, 4)}, false},
		{"this message", []rserpool.Cause{message(byte(TypeRegistration), 0, 0, 4)}, true},
		{"a message that is not named", []rserpool.Cause{message()}, true},
		{"another cause", []rserpool.Cause{security}, true},
		{"another cause after a report", []rserpool.Cause{parameter(0xc1, 0x23, 0, 4), security}, true},
		{"a cause of the reference implementation", []rserpool.Cause{{Code: 0x11}}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := (&Error{Causes: c.causes}).Refuses(TypeRegistration); got != c.want {
				t.Errorf("Refuses = %v, want %v", got, c.want)
			}
		})
	}
}
