package main

import (
	"fmt"
	"io"
	"strings"
)

// bar shows how far long work is: on a terminal as a bar in one line that is
// rewritten, elsewhere as a line whenever it has changed.
type bar struct {
	w    io.Writer
	live bool
	last string
}

func newBar(w io.Writer) *bar { return &bar{w: w, live: isTerminal(w)} }

// barWidth is how many columns the bar itself has.
const barWidth = 20

// show shows a share of 0 to 1, less than 0 for one that isn't known, with text
// beside it.
func (b *bar) show(share float64, text string) {
	text = printable(text)
	if b.live {
		line := text
		if share >= 0 {
			done := int(min(share, 1) * barWidth)
			line = fmt.Sprintf("[%s%s] %3.0f%% %s", strings.Repeat("#", done), strings.Repeat(".", barWidth-done), 100*min(share, 1), text)
		}
		fmt.Fprint(b.w, clearLine+cut(line, maxColumns))
		return
	}
	if text != b.last {
		fmt.Fprintln(b.w, text)
	}
	b.last = text
}

// end takes the bar away.
func (b *bar) end() {
	if b.live {
		fmt.Fprint(b.w, clearLine)
	}
}

// cut is the beginning of a text, of n runes at most.
func cut(text string, n int) string {
	if r := []rune(text); len(r) > n {
		return string(r[:n])
	}
	return text
}
