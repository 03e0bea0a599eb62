package run_test

import (
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/topology"
)

// written is the last sequence of the ledgers' bucket.
func (f *fixture) written() uint64 {
	f.t.Helper()
	s, err := f.js.Stream(f.t.Context(), "KV_"+topology.BucketLedger)
	if err != nil {
		f.t.Fatal(err)
	}
	return s.CachedInfo().State.LastSeq
}

// A window without records needs no ledger. It is read all the same once in an
// hour, if there are events that it has not: the stream doesn't keep them for ever.
func TestLedgerIsReadWhenThereIsSomethingToCompare(t *testing.T) {
	t.Parallel()
	f := setup(t)
	r := f.runner(ascending)
	f.do(r)
	if f.written() != 0 || !f.cursor().LedgerAt.Equal(noon) {
		t.Fatalf("without any event the ledger was written, or is of %s", f.cursor().LedgerAt)
	}
	f.saw("a", noon.Add(-2*time.Hour), false)
	f.pass(59 * time.Minute)
	f.do(r)
	if f.written() != 0 {
		t.Error("the ledger was read for a window without records")
	}
	f.pass(time.Minute)
	f.do(r)
	kept := f.written()
	if kept == 0 || !f.cursor().LedgerAt.Equal(noon.Add(time.Hour)) {
		t.Errorf("after an hour the ledger is of %s, want it to have all events", f.cursor().LedgerAt)
	}
	f.saw("b", noon.Add(-2*time.Hour), false)
	f.pass(time.Minute)
	f.shop.put("b", noon.Add(55*time.Minute))
	if rep := f.do(r); rep.Stale != 1 || f.written() == kept || !f.cursor().LedgerAt.Equal(noon.Add(61*time.Minute)) {
		t.Errorf("report %+v with a ledger of %s, want a stale record by one that has all events", rep.Counts, f.cursor().LedgerAt)
	}
}

// A dry run of a window without records leaves the ledger as it is, too.
func TestDryRunDoesNotKeepTheLedgerUp(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.saw("a", noon.Add(-2*time.Hour), false)
	begun, err := f.runner(ascending).Begin(t.Context(), dryRun)
	if err != nil {
		t.Fatal(err)
	}
	if err := begun.Do(); err != nil || f.written() != 0 {
		t.Errorf("Do() = %v, and the ledger was written up to %d, want nothing", err, f.written())
	}
}
