package rserpool

// Ready implements ready.Readiness. CoreDNS asks the last one of a plugin's
// handlers for all of them, and may do so while registrars are being started.
// So it tells of all registrars in the process, and not of the handler's own.
func (h *Handler) Ready() bool { return process.Ready() }
