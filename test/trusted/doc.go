// Package trusted tests a trusted scope as a user sets it up: with the commands of the README,
// and real programs.
package trusted
