package config_test

import (
	"testing"
	"time"

	"github.com/tercelhq/tercel/pkg/config"
)

func TestParseDuration(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		want time.Duration
		bad  bool
	}{
		"30s":              {want: 30 * time.Second},
		"1h30m":            {want: 90 * time.Minute},
		"7d":               {want: 7 * 24 * time.Hour},
		"1d12h":            {want: 36 * time.Hour},
		"0":                {},
		"106751d23h47m16s": {want: 106751*24*time.Hour + 23*time.Hour + 47*time.Minute + 16*time.Second},
		"106751d23h47m17s": {bad: true},
		"106752d":          {bad: true},
		"-5m":              {bad: true},
		"1d-5m":            {bad: true},
		"+5m":              {bad: true},
		"1 hour":           {bad: true},
		"1h2d":             {bad: true},
		"1.5d":             {bad: true},
		"d":                {bad: true},
		"30":               {bad: true},
		"":                 {bad: true},
	}
	for in, tt := range tests {
		t.Run(in, func(t *testing.T) {
			t.Parallel()
			got, err := config.ParseDuration(in)
			if got != tt.want || (err != nil) != tt.bad {
				t.Errorf("ParseDuration(%q) = %v, %v, want %v, error %v", in, got, err, tt.want, tt.bad)
			}
		})
	}
}

func TestParseBytes(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		want config.Bytes
		text string
	}{
		"4096":                {want: 4096, text: "4KiB"},
		"512KB":               {want: 512_000, text: "500KiB"},
		"1MiB":                {want: 1 << 20, text: "1MiB"},
		"3gib":                {want: 3 << 30, text: "3GiB"},
		"5MB":                 {want: 5_000_000, text: "5MB"},
		"0":                   {want: 0, text: "0B"},
		"7B":                  {want: 7, text: "7B"},
		"9223372036854775807": {want: 1<<63 - 1, text: "9223372036854775807B"},
		"9223372036854775808": {},
		"8388608TiB":          {},
		"-1":                  {},
		"1.5MiB":              {},
		"1 MiB":               {},
		"MiB":                 {},
		"1XB":                 {},
		"":                    {},
	}
	for in, tt := range tests {
		t.Run(in, func(t *testing.T) {
			t.Parallel()
			got, err := config.ParseBytes(in)
			if got != tt.want || (err != nil) != (tt.text == "") {
				t.Fatalf("ParseBytes(%q) = %d, %v, want %d", in, got, err, tt.want)
			}
			if err == nil && got.String() != tt.text {
				t.Errorf("%d in text is %s, want %s", got, got, tt.text)
			}
		})
	}
}
