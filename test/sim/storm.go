package sim

import "time"

// storm counts what a second brings.
type storm struct {
	last counts
	most int // ENRP messages in the busiest second
}

// stormLimit is how many ENRP messages there may be in a second, of R registrars
// and E elements: if each element changes hands, some updates to each registrar,
// where three have to be for two registrars that both have it; and between two
// registrars a presence, a list and a table, asked for by either.
func (s *Sim) stormLimit() int {
	registrars, elements := len(s.servers), len(s.elements)
	return 4*registrars*elements + 12*registrars*registrars
}

// watchStorm looks at the ENRP messages of each second.
func (s *Sim) watchStorm() {
	sent := s.net.sent.since(s.storm.last).all()
	s.storm.last = s.net.sent
	s.storm.most = max(s.storm.most, sent)
	if sent > s.stormLimit() {
		s.fail("%d ENRP messages in a second, want %d at most", sent, s.stormLimit())
	}
	s.net.after(time.Second, s.watchStorm)
}
