package account_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/tercelhq/tercel/pkg/account"
	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/pipeline"
)

// The accounts of a file, each with what is wrong with its entry.
func ExampleRead() {
	folder, err := os.MkdirTemp("", "accounts")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(folder) }()
	path := filepath.Join(folder, "accounts.yaml")
	const entries = "north: {}\nsouth: {disabled: true}\neast: {secret: env:EAST}\n"
	if err := os.WriteFile(path, []byte(entries), 0o600); err != nil {
		panic(err)
	}
	file, err := pipeline.Decode("tercel.yaml", []byte(`
sources:
  shop:
    preset: stripe
    secrets: [env:SHOP]
    accounts: {file: "`+path+`"}
`), config.WithLookupEnv(func(string) (string, bool) { return "whsec_0123456789abcdef", true }))
	if err != nil {
		panic(err)
	}

	table, faults, err := account.Read("shop", file.Sources["shop"], nil)
	if err != nil {
		panic(err)
	}
	for _, name := range []string{"north", "south", "east"} {
		a, err := table.Find(name)
		switch {
		case errors.Is(err, account.ErrUnknown):
			fmt.Println(name, "may not send")
		case err != nil:
			fmt.Println(name, "can't be served:", err)
		default:
			fmt.Println(a.Name, "may send")
		}
	}
	fmt.Printf("%+v\n", table.Count())
	for _, f := range faults {
		fmt.Printf("line %d: %s: %s, %s\n", f.Line, f.Key, f.Found, f.Suggestion)
	}
	// Output:
	// north may send
	// south may not send
	// east can't be served: the account's entry can't be used
	// {Active:1 Disabled:1 Broken:1}
	// line 3: east.secret: unknown key, secrets
}
