// Package enrp holds the messages of the Endpoint Handlespace Redundancy
// Protocol (RFC 5353), by which registrars keep their handlespaces in step,
// and their form on the wire. What registrars do with them is not here.
package enrp
