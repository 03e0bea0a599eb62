package main

import (
	"fmt"

	"github.com/tercelhq/tercel/services/internal/boot"
)

// listFlags choose a part of a long list.
type listFlags struct {
	Limit     int    `help:"At most this many." default:"50"`
	PageToken string `help:"Go on where another list of the same ended." placeholder:"TOKEN"`
}

// maxPage is the longest page that the API gives.
const maxPage = 500

// list reads pages until there are as many as are wanted. What it returns as next
// is the token of what is behind them, or empty.
func list[T any](f listFlags, page func(size uint32, token string) (items []T, next string, err error)) (all []T, next string, err error) {
	if f.Limit < 1 {
		return nil, "", exitCode{boot.Usage, fmt.Sprintf("--limit %d: want at least 1", f.Limit)}
	}
	token := f.PageToken
	for {
		items, next, err := page(uint32(min(f.Limit-len(all), maxPage)), token)
		if err != nil {
			return nil, "", err
		}
		if all = append(all, items...); len(all) >= f.Limit || next == "" {
			return all, next, nil
		}
		token = next
	}
}

// more says that there is more of a list, and how to see it.
func more(a *app, next string) {
	if next != "" {
		fmt.Fprintf(a.err, "there are more: see --limit, or go on with --page-token %s\n", next)
	}
}
