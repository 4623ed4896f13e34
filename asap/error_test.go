package asap

import (
	"testing"

	"github.com/rserpool/coredns-rserpool/asap/param"
)

func TestErrorRefuses(t *testing.T) {
	parameter := func(info ...byte) param.Cause {
		return param.Cause{Code: param.CauseUnrecognizedParameter, Info: info}
	}
	message := func(info ...byte) param.Cause {
		return param.Cause{Code: param.CauseUnrecognizedMessage, Info: info}
	}
	security := param.Cause{Code: param.CauseSecurity}
	for _, c := range []struct {
		name   string
		causes []param.Cause
		want   bool
	}{
		{"a parameter that was skipped", []param.Cause{parameter(0xc1, 0x23, 0, 4)}, false},
		{"a parameter that is not named", []param.Cause{parameter()}, false},
		{"a parameter where the receiver stopped", []param.Cause{parameter(0x41, 0x23, 0, 4)}, true},
		{"another message", []param.Cause{message(byte(TypeEndpointKeepAliveAck), 0, 0, 4)}, false},
		{"this message", []param.Cause{message(byte(TypeRegistration), 0, 0, 4)}, true},
		{"a message that is not named", []param.Cause{message()}, true},
		{"another cause", []param.Cause{security}, true},
		{"another cause after a report", []param.Cause{parameter(0xc1, 0x23, 0, 4), security}, true},
		{"a cause of the reference implementation", []param.Cause{{Code: 0x11}}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := (&Error{Causes: c.causes}).Refuses(TypeRegistration); got != c.want {
				t.Errorf("Refuses = %v, want %v", got, c.want)
			}
		})
	}
}
