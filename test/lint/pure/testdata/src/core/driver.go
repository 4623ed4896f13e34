package core

import "time"

func drive() { goroutine(); _ = time.Now() }
