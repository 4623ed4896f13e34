// Package handlespace holds the pools of an operational scope and selects
// their elements by policy (RFC 5356). One writer changes it, and any number
// of readers, DNS handlers and handle resolutions alike, look up pools without
// a lock and share each pool's policy state under that pool's own lock.
package handlespace
