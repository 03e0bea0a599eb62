package provider

// Refused is what is kept of requests that are refused, beside their attributes
// and the check that refused them.
type Refused string

// What can be kept of a refused request's body.
const (
	// RefusedShape keeps its size, its hash, and the names and types of its fields.
	RefusedShape Refused = "shape"
	// RefusedBody keeps the body as well, as far as the source's redact lets it be
	// seen, and up to 64 KiB.
	RefusedBody Refused = "body"
	// RefusedNothing keeps nothing of such a request at all.
	RefusedNothing Refused = "nothing"
)

// Values lists what can be kept, for configuration errors.
func (Refused) Values() []string {
	return []string{string(RefusedShape), string(RefusedBody), string(RefusedNothing)}
}
