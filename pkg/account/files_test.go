package account_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/account"
	"github.com/tercelhq/tercel/pkg/event"
)

const (
	unknown = "no such account"
	broken  = "the account's entry can't be used"
)

// Accounts of a file come, change and go while the process runs, each by itself.
func TestAccountsOfAFileComeAndGo(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	north, south := secret(t, folder, "north"), secret(t, folder, "south")
	path := write(t, filepath.Join(folder, "accounts.yaml"), `# ours
---
north: {secrets: [`+north+`]}
"south.2":
  secrets:
    - `+north+`
    - `+south+`
  api: {token: `+south+`}

poor: {}
closed: {disabled: true}
broken: {secrets: ["the secret itself, by mistake"]}
`)
	set, log := open(t, source(t, "{file: "+path+"}"), nil)
	table := set.Of("orders")
	for name, want := range map[string]string{
		"north": "1 keys", "south.2": "2 keys, token the secret of south, which is long enough", "poor": "0 keys",
		"closed": unknown, "broken": broken, "nobody": unknown, "": unknown,
	} {
		if got := state(table, name); got != want {
			t.Errorf("%s at first: %s, want %s", name, got, want)
		}
	}
	if got, want := table.Count(), (account.Count{Active: 3, Disabled: 1, Broken: 1}); got != want {
		t.Errorf("Count() = %+v, want %+v", got, want)
	}
	if !log.has("account=broken had_one=false") || log.has("by mistake") {
		t.Error("the broken entry must be logged by name, without what is in it")
	}
	changed := table.Changed()
	write(t, path, `
north: {secrets: [`+north+`, `+south+`]}
broken: {secrets: [`+south+`]}
closed: {disabled: false}
poor: {secret: []}
new: {}
`)
	eventually(t, table, "north", "2 keys")
	for name, want := range map[string]string{
		"south.2": unknown, "poor": "0 keys", "closed": "0 keys", "broken": "1 keys", "new": "0 keys",
	} {
		eventually(t, table, name, want)
	}
	select {
	case <-changed:
	case <-time.After(time.Minute):
		t.Error("Changed() goes on after a change")
	}
	wait(t, "the entry that broke is logged with its place", func() bool {
		return log.has("account=poor had_one=true") && log.has(path+":5:8: poor.secret: unknown key")
	})
}

// What isn't there at all is taken for a mistake, also while a file is half
// written; what is known stays.
func TestMistakesLeaveAccountsAsTheyAre(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(path string) error{
		"gone":        os.Remove,
		"empty":       func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"a comment":   func(path string) error { return os.WriteFile(path, []byte("# later\n"), 0o600) },
		"no entries":  func(path string) error { return os.WriteFile(path, []byte("- north\n"), 0o600) },
		"a folder":    func(path string) error { _ = os.Remove(path); return os.Mkdir(path, 0o700) },
		"over 64 MiB": func(path string) error { return os.Truncate(path, 65<<20) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := write(t, filepath.Join(t.TempDir(), "accounts.yaml"), "north: {}\nsouth: {}\n")
			set, log := open(t, source(t, "{file: "+path+"}"), nil)
			if err := spoil(path); err != nil {
				t.Fatal(err)
			}
			wait(t, "a complaint", func() bool { return log.has("accounts not read, those that are known stay") })
			if got := state(set.Of("orders"), "north"); got != "0 keys" {
				t.Errorf("north: %s, want it as it was", got)
			}
			_ = os.Remove(path)
			write(t, path, "south: {}\n")
			eventually(t, set.Of("orders"), "north", unknown)
		})
	}
}

func TestAccountsOfAFolderComeAndGo(t *testing.T) {
	t.Parallel()
	folder, secrets := t.TempDir(), t.TempDir()
	entry := func(name string) string { return filepath.Join(folder, name+".yaml") }
	north := secret(t, secrets, "north")
	write(t, entry("north"), "secrets: ["+north+"]")
	write(t, entry("south.2"), "{}")
	write(t, entry("empty"), "")
	write(t, filepath.Join(folder, "README"), "not an account")
	if err := os.Symlink(filepath.Join(secrets, "nothing"), entry("dangling")); err != nil {
		t.Fatal(err)
	}
	set, log := open(t, source(t, "{dir: "+folder+"}"), nil)
	table := set.Of("orders")
	for name, want := range map[string]string{"north": "1 keys", "south.2": "0 keys", "empty": broken, "README": unknown, "dangling": unknown} {
		if got := state(table, name); got != want {
			t.Errorf("%s at first: %s, want %s", name, got, want)
		}
	}
	write(t, entry("east"), "secrets: ["+north+", "+north+"]")
	write(t, entry("north"), "secrets: [env:NONE_OF_THAT_NAME]")
	if err := os.Remove(entry("south.2")); err != nil {
		t.Fatal(err)
	}
	eventually(t, table, "east", "2 keys")
	eventually(t, table, "south.2", unknown)
	wait(t, "north is found broken", func() bool { return log.has("account=north had_one=true") })
	if got := state(table, "north"); got != "1 keys" {
		t.Errorf("north: %s, want its last good entry", got)
	}
	// A volume that isn't mounted any more looks like an empty folder.
	for _, name := range []string{"north", "east", "empty"} {
		if err := os.Remove(entry(name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(entry("dangling")); err != nil {
		t.Fatal(err)
	}
	wait(t, "a complaint", func() bool { return log.has("taken for a mistake") })
}

// A secret whose file is replaced counts without its entry being touched.
func TestSecretsAreReadAgainWhenTheirFilesChange(t *testing.T) {
	t.Parallel()
	for name, place := range map[string]string{"file": "file", "folder": "dir"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder, secrets := t.TempDir(), t.TempDir()
			token := secret(t, secrets, "token")
			late := "file:" + filepath.Join(secrets, "late")
			path := folder
			if place == "file" {
				path = write(t, filepath.Join(folder, "accounts.yaml"), "north: {api: {token: "+token+"}}\nsouth: {secrets: ["+late+"]}\n")
			} else {
				write(t, filepath.Join(folder, "north.yaml"), "api: {token: "+token+"}")
				write(t, filepath.Join(folder, "south.yaml"), "secrets: ["+late+"]")
			}
			set, _ := open(t, source(t, "{"+place+": "+path+"}"), nil)
			table := set.Of("orders")
			if got := state(table, "south"); got != broken {
				t.Errorf("south: %s, want %s", got, broken)
			}
			write(t, filepath.Join(secrets, "token"), "another token")
			secret(t, secrets, "late")
			eventually(t, table, "north", "0 keys, token another token")
			eventually(t, table, "south", "1 keys")
		})
	}
}

func TestEntriesThatCannotBeToldApart(t *testing.T) {
	t.Parallel()
	path := write(t, filepath.Join(t.TempDir(), "accounts.yaml"), `
north: {}
north: {disabled: true}
"a b": {}
12: {}
-: {}
`)
	table, faults, err := account.Read("orders", source(t, "{file: "+path+"}"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := state(table, "north"); got != broken {
		t.Errorf("north: %s, want it broken: two entries say different things", got)
	}
	if got := state(table, "12"); !strings.HasPrefix(got, broken) && got != "0 keys" {
		t.Errorf("12: %s", got)
	}
	if len(faults) < 2 {
		t.Errorf("faults: %v", faults)
	}
}

func TestNoMoreAccountsThanAllowed(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	for i := range 12 {
		fmt.Fprintf(&text, "a%02d: {}\n", i)
	}
	path := write(t, filepath.Join(t.TempDir(), "accounts.yaml"), text.String())
	set, log := open(t, source(t, "{file: "+path+", max: 10}"), nil)
	table := set.Of("orders")
	if got := table.Count().Active; got != 10 || state(table, "a09") != "0 keys" || state(table, "a10") != unknown {
		t.Errorf("%d accounts, want the first 10", got)
	}
	if !log.has("accounts left out") {
		t.Error("nothing is said of those that were left out")
	}
	write(t, path, strings.ReplaceAll(text.String(), "a00: {}\n", ""))
	eventually(t, table, "a00", unknown)
}

// Of accounts that a folder has too many of it is told once, however often the
// folder is looked at.
func TestAccountsLeftOutOfAFolderAreToldOfOnce(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	entry := func(i int) string { return filepath.Join(folder, fmt.Sprintf("a%02d.yaml", i)) }
	for i := range 12 {
		write(t, entry(i), "{}")
	}
	set, log := open(t, source(t, "{dir: "+folder+", max: 10}"), nil)
	table, told := set.Of("orders"), func() int { return strings.Count(log.String(), "accounts left out") }
	if table.Count().Active != 10 || told() != 1 {
		t.Fatalf("%d accounts, and %d lines about others; want 10 and one", table.Count().Active, told())
	}
	for i := range 5 { // each is seen at two looks
		write(t, entry(i), "{disabled: true}")
		eventually(t, table, fmt.Sprintf("a%02d", i), unknown)
	}
	if got := told(); got != 1 {
		t.Errorf("%d lines about accounts that were left out, want one", got)
	}
}

// A file that is being written while it is first read is read again: until then
// its accounts are not unknown.
func TestAccountsBeingWrittenAreWaitedFor(t *testing.T) {
	t.Parallel()
	for name, place := range map[string]string{"file": "file", "folder": "dir"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			path, file := folder, filepath.Join(folder, "north.yaml")
			text := "{}" + strings.Repeat(" # a long comment", 3000)
			if place == "file" {
				path, text = file, strings.Repeat("# a long comment\n", 100_000)+"north: {}\n"
			}
			write(t, file, text)
			touched := make(chan struct{}, 1)
			go func() { // for less time than ten looks take
				defer close(touched)
				for end := time.Now().Add(60 * time.Millisecond); time.Now().Before(end); {
					_ = os.Chtimes(file, time.Time{}, time.Now())
					select {
					case touched <- struct{}{}:
					default:
					}
				}
			}()
			<-touched // it has begun
			set, _ := open(t, source(t, "{"+place+": "+path+"}"), nil)
			if got := state(set.Of("orders"), "north"); got != "0 keys" {
				t.Errorf("north: %s, want it to be known", got)
			}
			for range touched { // until its end
			}
		})
	}
}

func TestAuthIsTheAccountsOwnOrTheSources(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	path := write(t, filepath.Join(folder, "accounts.yaml"),
		"own: {api: {token: "+secret(t, folder, "own")+"}}\nnone: {}\nclosed: {disabled: true}\nbroken: {x: 1}\n")
	src := source(t, "{file: "+path+"}")
	set, _ := open(t, src, nil)
	auth := set.Auth(&src, "orders")
	for name, want := range map[string]string{
		"own": "the secret of own, which is long enough", "none": src.API.Token.Reveal(), "closed": src.API.Token.Reveal(),
		event.NoAccount: src.API.Token.Reveal(), "broken": "", "nobody": "",
	} {
		if got, ok := auth(name); ok != (want != "") || got.Token.Reveal() != want {
			t.Errorf("Auth(%s) = %q, %t, want %q", name, got.Token.Reveal(), ok, want)
		}
	}
}

func TestOpenSaysWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	for place, want := range map[string]string{
		"{file: /nonexistent/accounts.yaml}": "accounts of orders: ",
		"{dir: /nonexistent/accounts}":       "accounts of orders: ",
	} {
		if _, _, err := account.Read("orders", source(t, place), nil); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("Read(%s) = %v, want an error", place, err)
		}
	}
}
