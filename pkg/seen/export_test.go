package seen

// Reencode reads a block and writes it again, for the fuzz test.
func Reencode(data []byte) ([]byte, error) {
	marks, err := decode(data)
	return encode(marks), err
}

// Bytes is the memory that the table takes.
func (x *Index) Bytes() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.table.segments) * segmentBytes
}
