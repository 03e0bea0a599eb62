package boot

import (
	"cmp"
	"runtime/debug"
)

// version and revision are set by the linker where a release or an image is
// built, which the Go command can't know of.
var version, revision string

// Version is the program's version and the revision that it was built from, such
// as "v1.2.0 (0123456789ab)". What isn't known is said to be: a build of a
// working copy is "devel", one outside of any repository of revision "unknown".
func Version() string {
	v, r, dirty := version, revision, ""
	if info, ok := debug.ReadBuildInfo(); ok {
		if info.Main.Version != "(devel)" {
			v = cmp.Or(v, info.Main.Version)
		}
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				r = cmp.Or(r, s.Value)
			case s.Key == "vcs.modified" && s.Value == "true" && revision == "":
				dirty = ", modified"
			}
		}
	}
	r = cmp.Or(r, "unknown")
	return cmp.Or(v, "devel") + " (" + r[:min(len(r), 12)] + dirty + ")"
}
