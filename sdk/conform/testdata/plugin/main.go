// Command plugin is the example that its file name says: "sink" and "decoder" keep their contract, what follows after a
// minus sign is the fault, such as "sink-stdout".
package main

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/grapnelhq/grapnel/sdk/internal/example"
)

func main() {
	name := strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe")
	kind, fault, _ := strings.Cut(name, "-")
	example.Main(kind, fault)
}
