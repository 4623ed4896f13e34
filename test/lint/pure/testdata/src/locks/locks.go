package locks

import (
	"os" // want "import of os"
	"sync"
)

var _ sync.Mutex
var _ = os.Args
