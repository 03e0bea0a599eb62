// Package eventv1 is the contract of the messages on "tercel.enriched.>", for
// the teams that read them.
//
// The body of a message is JSON and becomes a [Body] through protojson. Give it
// the option DiscardUnknown: members may be added, and a reader built before
// that must not stumble over them. The headers of a message hold what
// [Attributes] describes.
//
// The package needs nothing but protobuf. It is generated from event.proto.
package eventv1
