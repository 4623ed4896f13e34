package pe

import (
	"errors"
	"fmt"
	"slices"
)

// ErrCookieTooLong says that a cookie is longer than ListenConfig.MaxCookie.
var ErrCookieTooLong = errors.New("state cookie is too long")

// seal makes the cookie of a state for the user of an identity.
func (c *ListenConfig) seal(identity string, state []byte) (cookie []byte, err error) {
	if c.Cookies == nil {
		cookie = slices.Clone(state)
	} else if cookie, err = c.Cookies.Seal(identity, state); err != nil {
		return nil, err
	}
	return cookie, c.checkCookie(cookie)
}

// open gives the state in a cookie that the user of an identity has brought.
func (c *ListenConfig) open(identity string, cookie []byte) (state []byte, err error) {
	if err := c.checkCookie(cookie); err != nil {
		return nil, err
	}
	if c.Cookies == nil {
		return cookie, nil
	}
	return c.Cookies.Open(identity, cookie)
}

func (c *ListenConfig) checkCookie(cookie []byte) error {
	if len(cookie) > c.MaxCookie {
		return fmt.Errorf("%w: %d octets, at most %d are allowed", ErrCookieTooLong, len(cookie), c.MaxCookie)
	}
	return nil
}
