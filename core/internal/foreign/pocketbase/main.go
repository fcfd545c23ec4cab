// Command pocketbase is PocketBase as it comes, for the tests behind the tag foreign: a REST API with a database, access
// rules and a rate limiter that nobody here wrote. It is a module of its own, so that nothing else shares its dependencies.
package main

import (
	"fmt"
	"os"

	"github.com/pocketbase/pocketbase"
)

func main() {
	if err := pocketbase.New().Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
