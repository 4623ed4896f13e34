//go:build !linux

package child

// Change gives no changes here.
func (c *Child) Change() (Change, bool) { return Change{}, false }

// TakeTerminal does nothing here.
func (c *Child) TakeTerminal() bool { return false }

// ReturnTerminal does nothing here.
func (c *Child) ReturnTerminal() {}
