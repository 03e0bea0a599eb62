// Command tell answers every line of its input with what it takes the time for.
package main

import (
	"bufio"
	"encoding/json"
	"os"
	"runtime"
	"time"
)

func main() {
	begun := time.Now()
	hour := time.AfterFunc(time.Hour, func() { panic("an hour is over") })
	defer hour.Stop()
	out := json.NewEncoder(os.Stdout)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var sent time.Time
		select {
		case sent = <-time.After(time.Millisecond):
		case <-time.NewTimer(time.Hour).C: // of a clock that has moved by hours
		}
		_ = out.Encode(map[string]any{
			"now": time.Now(), "sent": sent, "elapsed": time.Since(begun), "goroutines": runtime.NumGoroutine(),
		})
	}
}
