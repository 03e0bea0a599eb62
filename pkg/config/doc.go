// Package config loads YAML files into Go structs, strictly, and reports every
// fault of a file at once.
//
// A fault carries file, line, column and key path, what was found, what was
// wanted and, for a near miss, what was probably meant. Unknown and repeated
// keys are faults; so are anchors, aliases, merge keys, tags, a second document
// and plain text that goes on in the next line, because a reader of the file
// should see what it says.
//
// Fields are named by `yaml:"name"` tags; an exported field without a tag is
// no part of the file, and a struct tagged `yaml:",inline"` lends its keys to
// the one around it. Supported are text, bool, whole and broken numbers,
// [time.Duration], [Bytes], [Secret], structs, pointers, slices and maps with
// text keys. What a field holds before decoding is its default: it stays when
// its key is absent. A map keeps the entries that the file doesn't name; a
// slice is replaced. A type refines this with up to three interfaces:
//
//   - Values() []string, on a text type, lists the only accepted values;
//   - [NodeDecoder] reads forms of its own, such as a short and a long one,
//     and sets defaults of elements of maps and slices;
//   - [Validator] checks what was read, with faults at positions in the file.
//
// Secrets are given by reference, never literally, see [Secret]; no fault
// shows the text found where a secret belongs.
//
// All functions are safe for concurrent use; one destination is not.
package config
