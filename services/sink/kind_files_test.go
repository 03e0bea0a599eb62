package sink_test

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-json-experiment/json"
)

var filesCannot = map[string]string{
	recordsAreThere: "files only grow; whoever reads them folds events into records",
	refusedAlone:    "a file refuses no single event",
	slowIsBounded:   "a file system that hangs can't be left by anyone who writes to it",
}

// filesPlace is a folder whose files are so small that every test rotates them.
func filesPlace(t *testing.T) *place {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "files")
	return &place{
		yaml:    fmt.Sprintf("files: {dir: %q, max_size: 16KiB}", folder),
		rows:    func(t *testing.T) []row { return fileRows(t, folder) },
		breakIt: func(t *testing.T) func() { return replaceFolder(t, folder) },
	}
}

func fileRows(t *testing.T, folder string) []row {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(folder, "events-*.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	var rows []row
	for _, name := range names { // Glob sorts
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(bytes.NewReader(data))
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var r row
			if err := json.Unmarshal(lines.Bytes(), &r, json.RejectUnknownMembers(true)); err != nil {
				t.Fatalf("%s: line %q: %v", name, lines.Bytes(), err)
			}
			rows = append(rows, r)
		}
	}
	return rows
}

// replaceFolder puts a file where the folder belongs, which stops root too.
func replaceFolder(t *testing.T, folder string) (heal func()) {
	t.Helper()
	move := func(from, to string) {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	move(folder, folder+".away")
	if err := os.WriteFile(folder, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return func() {
		move(folder, folder+".file")
		move(folder+".away", folder)
	}
}
