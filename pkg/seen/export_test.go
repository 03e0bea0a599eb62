package seen

// Reencode reads a block and writes it again, for the fuzz test.
func Reencode(data []byte) ([]byte, error) {
	marks, err := decode(data)
	return encode(marks), err
}
