package account

import "time"

// Looks are frequent in tests. So short a time between them still tells what is
// being written from what was.
func init() { lookEvery, secretsEvery = 20*time.Millisecond, 40*time.Millisecond }
