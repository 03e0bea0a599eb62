package pages

import "fmt"

// bar is one bar of a plot, in the plot's own units.
type bar struct {
	X, Y, Width, Height float64
	// Label says what it stands for.
	Label string
	// Bad marks what should not be.
	Bad bool
}

// plot is a plot of bars, drawn as SVG by the template.
type plot struct {
	Width, Height float64
	Bars          []bar
	// Label says in words what the plot shows, for those who don't see it.
	Label string
}

// newSpark is a small plot of what came in each hour.
func newSpark(hourly []uint64) plot {
	const width, height = 5, 24
	p := plot{Width: float64(len(hourly)) * width, Height: height}
	var most, all uint64
	for _, n := range hourly {
		most, all = max(most, n), all+n
	}
	for i, n := range hourly {
		if n == 0 {
			continue
		}
		h := max(2, float64(n)/float64(most)*height)
		p.Bars = append(p.Bars, bar{
			X: float64(i) * width, Y: height - h, Width: width - 1, Height: h,
			Label: fmt.Sprintf("%d, %d h ago", n, len(hourly)-1-i),
		})
	}
	p.Label = fmt.Sprintf("%d in the last %d hours, at most %d in one", all, len(hourly), most)
	return p
}
