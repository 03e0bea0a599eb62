package clock

import (
	"strings"
	"testing"
)

// A standard library that is written otherwise than the one that was known is
// told, and not built with a clock that can't be set.
func TestAnUnknownLibraryIsTold(t *testing.T) {
	t.Parallel()
	const known = "package time\n\nimport (\n)\n\nfunc Now() Time {\n\tsec, nsec, mono := runtimeNow()\n}\n"
	if _, err := settable([]byte(known)); err != nil {
		t.Fatal(err)
	}
	for name, source := range map[string]string{
		"another Now": strings.Replace(known, "runtimeNow", "now", 1),
		"no imports":  strings.Replace(known, "import (", "import _ (", 1),
		"two of it":   known + known,
	} {
		if _, err := settable([]byte(source)); err == nil || !strings.Contains(err.Error(), "not the standard library") {
			t.Errorf("%s: %v, want an error that tells", name, err)
		}
	}
}
