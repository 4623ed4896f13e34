package sctp

import "sync"

// Gate holds up the goroutine that calls the Handler while an association is paused. The
// zero value is open. Any goroutine may use it.
type Gate struct {
	mu     sync.Mutex
	open   chan struct{} // closed by Resume; nil if the gate is open
	broken bool          // it stays open
}

// Pause closes the gate.
func (g *Gate) Pause() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open == nil && !g.broken {
		g.open = make(chan struct{})
	}
}

// Resume opens the gate. It reports whether it was closed.
func (g *Gate) Resume() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open == nil {
		return false
	}
	close(g.open)
	g.open = nil
	return true
}

// Break opens the gate for ever, because the association is to end. It reports whether
// it was closed.
func (g *Gate) Break() bool {
	g.mu.Lock()
	g.broken = true
	g.mu.Unlock()
	return g.Resume()
}

// Paused returns a channel that Resume closes; nil if the gate is open.
func (g *Gate) Paused() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open
}
