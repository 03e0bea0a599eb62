// Command generate writes the dashboards into a folder, one file each.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/tercelhq/tercel/services/internal/grafana"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: generate FOLDER")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func write(dir string) error {
	for _, d := range grafana.All() {
		text, err := d.JSON()
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, d.UID+".json"), text, 0o644); err != nil { //nolint:gosec // it is no secret
			return err
		}
	}
	return nil
}
