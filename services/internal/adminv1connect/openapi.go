// Package adminv1connect is the admin API's services as Go handlers and clients,
// generated from the contract in proto/tercel/admin/v1, beside the OpenAPI
// document that is generated from the same files.
//
// It stands here rather than beside the messages because it needs Connect, while
// whoever imports a message needs nothing but protobuf. It is internal because
// programs of others call the API over HTTP or make a client of their own from
// the contract.
package adminv1connect

import _ "embed"

//go:embed openapi.json
var openAPI []byte

// OpenAPI returns the OpenAPI 3.1 document of the services as JSON. Don't change
// it.
func OpenAPI() []byte { return openAPI }
