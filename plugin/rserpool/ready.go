package rserpool

// Ready implements ready.Readiness. CoreDNS asks only the last of a plugin's handlers, and
// may do so while registrars start. So the answer is about all registrars of the process.
func (h *Handler) Ready() bool { return process.Ready() }
