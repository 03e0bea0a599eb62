// Package adminv1 is the contract of the admin API: the messages with which
// operators look into a running pipeline and act on it.
//
// The services themselves are spoken over Connect, gRPC and gRPC-Web. Their
// methods are described in the .proto files beside this one and, for callers
// with HTTP and JSON alone, in the OpenAPI document that the API serves. The
// package needs nothing but protobuf, so a program that only reads messages
// isn't tied to a way of calling.
//
// Fields are only ever added. A reader ignores what it doesn't know: unknown
// fields, unknown numbers of an enum, unknown words in a closed set.
package adminv1
