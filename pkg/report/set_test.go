package report_test

import (
	"encoding/json"
	"testing"

	"github.com/tercelhq/tercel/pkg/report"
)

type member struct {
	id      string
	version uint64
}

func set(members ...member) report.Set {
	var s report.Set
	for _, m := range members {
		s.Add(m.id, m.version)
	}
	return s
}

func TestSetsAreEqualIffTheirRecordsAre(t *testing.T) {
	t.Parallel()
	base := set(member{"a", 1}, member{"b", 2})
	for name, tt := range map[string]struct {
		other report.Set
		equal bool
	}{
		"another order":         {set(member{"b", 2}, member{"a", 1}), true},
		"another version":       {set(member{"a", 1}, member{"b", 3}), false},
		"versions swapped":      {set(member{"a", 2}, member{"b", 1}), false},
		"another id":            {set(member{"a", 1}, member{"c", 2}), false},
		"one less":              {set(member{"a", 1}), false},
		"one twice":             {set(member{"a", 1}, member{"b", 2}, member{"b", 2}), false},
		"one twice, one less":   {set(member{"a", 1}, member{"a", 1}), false},
		"a pair more":           {set(member{"a", 1}, member{"b", 2}, member{"c", 3}, member{"c", 3}), false},
		"ids that run together": {set(member{"ab", 1}, member{"", 2}), false},
	} {
		if got := base == tt.other; got != tt.equal {
			t.Errorf("%s: equal = %t, want %t (%s, %s)", name, got, tt.equal, base.Digest, tt.other.Digest)
		}
	}
	// A pair that would cancel itself out shows in the digest alone too.
	if set(member{"a", 1}).Digest == set(member{"a", 1}, member{"b", 2}, member{"b", 2}).Digest {
		t.Error("two equal records cancel each other out")
	}
}

// The digests are those of Python's hashlib: sums modulo 2**128 of the first
// 16 bytes of sha256(version as 8 big-endian bytes + id).
func TestDigest(t *testing.T) {
	t.Parallel()
	for want, s := range map[string]report.Set{
		"00000000000000000000000000000000": set(),
		"3b196fd4907bedf51c3090e9835f2f7c": set(member{"a", 1}),
		"9916098d7541f3f33fa896bb5883a58b": set(member{"a", 1}, member{"b", 2}, member{"c", 3}),
	} {
		if got := s.Digest.String(); got != want {
			t.Errorf("digest of %d records %s, want %s", s.Records, got, want)
		}
		text, err := json.Marshal(s)
		var back report.Set
		if err != nil || json.Unmarshal(text, &back) != nil || back != s {
			t.Errorf("%s becomes %+v, want %+v", text, back, s)
		}
	}
	var d report.Digest
	for _, text := range []string{"", "0", "zz000000000000000000000000000000", "0000000000000000000000000000000000"} {
		if err := d.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("UnmarshalText(%q) = nil, want an error", text)
		}
	}
}

func TestStatement(t *testing.T) {
	t.Parallel()
	one, two := set(member{"a", 1}), set(member{"a", 2})
	complete := report.Report{Source: "orders", Account: "_", Resource: "order", To: noon, Complete: true, Sets: report.Sets{Listed: one, Held: one}}
	const what = "order of orders, account _, from the beginning to 2026-11-26T12:00:00Z: "
	for name, tt := range map[string]struct {
		change func(r *report.Report)
		want   string
	}{
		"the same":   {func(*report.Report) {}, "complete up to 2026-11-26T12:00:00Z, both sides have the same 1 records (digest " + one.Digest.String() + ")"},
		"failed":     {func(r *report.Report) { r.Complete, r.Error = false, "x" }, "not complete, the run failed"},
		"unfinished": {func(r *report.Report) { r.Complete = false }, "not complete, some records were not compared"},
		"repaired": {
			func(r *report.Report) { r.Missed, r.Repaired, r.Sets.Held = 1, 1, report.Set{} },
			"complete up to 2026-11-26T12:00:00Z once the 1 records that were sent again are delivered, of 1 listed (digest " + one.Digest.String() + ")",
		},
		"dry run": {
			func(r *report.Report) { r.Stale, r.DryRun = 1, true },
			"not complete, 1 of 1 listed records were missed or stale and left so by a dry run",
		},
		"ahead": {
			func(r *report.Report) { r.Sets.Held = two },
			"complete up to 2026-11-26T12:00:00Z, the source listed 1 records (digest " + one.Digest.String() +
				"), of which some are held in newer versions (digest " + two.Digest.String() + ")",
		},
		"missed at a destination": {
			func(r *report.Report) {
				r.Repaired, r.Destinations = 1, map[string]report.Destination{"warehouse": {Missed: 1}}
			},
			"complete up to 2026-11-26T12:00:00Z once the 1 records that were sent again are delivered, of 1 listed (digest " + one.Digest.String() + ")",
		},
	} {
		r := complete
		tt.change(&r)
		if got := r.Statement(); got != what+tt.want {
			t.Errorf("%s: %s\nwant %s", name, got, what+tt.want)
		}
	}
}
