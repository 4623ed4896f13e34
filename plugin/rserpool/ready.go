package rserpool

// Ready implements ready.Readiness. CoreDNS asks the last of a plugin's
// handlers for all of them, so it tells of all registrars in the process.
func (h *Handler) Ready() bool {
	for _, s := range process.snapshot() {
		if !s.Ready() {
			return false
		}
	}
	return h.registrar != nil && h.registrar.Ready()
}
