package account_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/tercelhq/tercel/pkg/account"
	"github.com/tercelhq/tercel/pkg/provider"
)

// sizes are how many accounts are measured.
var sizes = []int{100, 1_000, 10_000}

// name is what an account is called, as a provider might.
func name(i int) string { return fmt.Sprintf("acct_%012d", i) }

// manyAccounts writes a file of n accounts, each with a secret and a token of
// its own in one file that they share.
func manyAccounts(b *testing.B, n int) provider.Source {
	b.Helper()
	folder := b.TempDir()
	ref := secret(b, folder, "secret")
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, "%s: {secrets: [%s], api: {token: %s}}\n", name(i), ref, ref)
	}
	return source(b, "{file: "+write(b, filepath.Join(folder, "accounts.yaml"), text.String())+"}")
}

// heap is the memory in use.
func heap() float64 {
	runtime.GC()
	runtime.GC() // what finalizers held
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// BenchmarkFind is what an account costs each of its requests.
func BenchmarkFind(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			before := heap()
			table, faults, err := account.Read("orders", manyAccounts(b, n), nil)
			if err != nil || len(faults) > 0 {
				b.Fatal(err, faults)
			}
			perAccount := (heap() - before) / float64(n)
			names := make([]string, n)
			for i := range names {
				names[i] = name(i * 7919 % n)
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				if _, err := table.Find(names[i%n]); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(perAccount, "B/account")
			runtime.KeepAlive(table)
		})
	}
}

// BenchmarkRead is what reading all accounts costs at the start.
func BenchmarkRead(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			src := manyAccounts(b, n)
			b.ResetTimer()
			for range b.N {
				if _, _, err := account.Read("orders", src, nil); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*n), "us/account")
		})
	}
}

// BenchmarkChange is what it costs to take over one changed entry of many.
func BenchmarkChange(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			src := manyAccounts(b, n)
			table, look, err := account.Following("orders", src)
			if err != nil {
				b.Fatal(err)
			}
			text, err := os.ReadFile(src.Accounts.File)
			if err != nil {
				b.Fatal(err)
			}
			b.ResetTimer()
			for i := range b.N {
				b.StopTimer()
				write(b, src.Accounts.File, string(text)+fmt.Sprintf("new_%d: {}\n", i))
				b.StartTimer()
				if err := look(); err != nil {
					b.Fatal(err)
				}
				if _, err := table.Find(fmt.Sprintf("new_%d", i)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
