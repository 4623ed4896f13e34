package other

import "time"

func now() time.Time { return time.Now() }
