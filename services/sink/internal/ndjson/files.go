package ndjson

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

const namePattern = "events-%06d.ndjson"

// fileNumbers lists the numbers of the files in dir in their order. Other
// files are left alone.
func fileNumbers(dir string) ([]int, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var numbers []int
	for _, e := range entries {
		digits, ok := strings.CutPrefix(strings.TrimSuffix(e.Name(), ".ndjson"), "events-")
		n, err := strconv.Atoi(digits)
		if ok && err == nil && n > 0 && e.Name() == fmt.Sprintf(namePattern, n) {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// mend cuts off what a crash left at the end of file: everything behind the
// last whole line, if no whole line follows. It then syncs the file, since
// what the dead process wrote may still be in memory alone, and returns its
// size.
func mend(file *os.File) (size int64, err error) {
	whole, end, err := wholeLines(file)
	if err != nil {
		return 0, err
	}
	if whole < end {
		if err := file.Truncate(whole); err != nil {
			return 0, err
		}
	}
	return whole, file.Sync()
}

// wholeLines returns where the last whole line of file ends and where the file
// does. A damaged line in front of a whole one is no crash's doing, since lines
// are synced in order: cutting there would lose events, so it is an error.
func wholeLines(file *os.File) (whole, end int64, err error) {
	damaged := int64(-1)
	for line, err := range lines(file) {
		if err != nil {
			return 0, 0, err
		}
		start := end
		end += int64(len(line))
		// Its middle counts too: a file system may write blocks in any order.
		if _, err := lineKey(line); err != nil || !jsontext.Value(line).IsValid() {
			if damaged < 0 {
				damaged = start
			}
			continue
		}
		if damaged >= 0 {
			return 0, 0, fmt.Errorf("%s: the line at byte %d is damaged, but lines follow: mend it or move the file away",
				file.Name(), damaged)
		}
		whole = end
	}
	return whole, end, nil
}

// lines yields the lines of r with their ends; the last may have none. A
// yielded line is overwritten by the next.
func lines(r io.Reader) func(yield func([]byte, error) bool) {
	return func(yield func([]byte, error) bool) {
		in := bufio.NewReaderSize(r, 1<<20)
		var long []byte
		for {
			part, err := in.ReadSlice('\n')
			if errors.Is(err, bufio.ErrBufferFull) {
				long = append(long, part...)
				continue
			}
			if len(long) > 0 {
				long = append(long, part...)
				part = long
			}
			if len(part) > 0 && !yield(part, nil) {
				return
			}
			long = long[:0]
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(nil, err)
				return
			}
		}
	}
}
