package cookie_test

import (
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/rserpool/coredns-rserpool/asap/cookie"
)

// Two elements of a pool share a key: one seals the state, the other one continues.
func Example() {
	file := []byte("# keys of the pool jobs, the first one seals\n" + cookie.GenerateKey().Secret() + "\n")

	keys, err := cookie.ParseKeys(file)
	if err != nil {
		log.Fatal(err)
	}
	one, err := cookie.New(cookie.Config{Pool: "jobs", Keys: keys, Life: 10 * time.Minute})
	if err != nil {
		log.Fatal(err)
	}
	other, err := cookie.New(cookie.Config{Pool: "jobs", Keys: keys, Life: 10 * time.Minute})
	if err != nil {
		log.Fatal(err)
	}

	sealed, err := one.Seal("", []byte("tile 7 of 64"))
	if err != nil {
		log.Fatal(err)
	}
	state, err := other.Open("", sealed)
	fmt.Printf("%s %v\n", state, err)

	sealed[40] ^= 1
	_, err = other.Open("", sealed)
	fmt.Println(errors.Is(err, cookie.ErrForged))
	// Output:
	// tile 7 of 64 <nil>
	// true
}
