package main

import (
	"github.com/tercelhq/tercel/services/internal/adminv1connect"
	"github.com/tercelhq/tercel/services/internal/fileschema"
)

type contractCmd struct {
	JSONSchema jsonSchemaCmd `cmd:"" name:"jsonschema" help:"Print a JSON Schema of a file that people write."`
	OpenAPI    openAPICmd    `cmd:"" name:"openapi" help:"Print the OpenAPI document of the admin API."`
}

type openAPICmd struct{}

// Help is shown by --help.
func (openAPICmd) Help() string {
	return `Prints the OpenAPI 3.1 document (JSON) of the admin API, which a console also serves at /openapi.json. The API
speaks gRPC too; the contract of both is in proto/tercel/admin/v1.

Example:
  tercel contract openapi > tercel-admin.openapi.json`
}

// Run runs the command.
func (openAPICmd) Run(a *app) error {
	_, err := a.out.Write(adminv1connect.OpenAPI())
	return err
}

type jsonSchemaCmd struct {
	Of string `help:"The file: ${enum}." enum:"${schemas}" default:"pipeline"`
}

// Help is shown by --help.
func (jsonSchemaCmd) Help() string {
	return `Prints a JSON Schema (2020-12) for editors and other programs: of the pipeline file, of a preset, or of a
file with accounts. It says which keys there are and what each takes; "tercel check" finds more.

An editor with a YAML language server completes and explains the pipeline file once the schema lies beside
it and the file begins with the line "# yaml-language-server: $schema=tercel.schema.json".

Example:
  tercel contract jsonschema --of pipeline > tercel.schema.json`
}

// Run runs the command.
func (c jsonSchemaCmd) Run(a *app) error {
	text, _ := fileschema.Of(c.Of) // the command line takes no other names
	_, err := a.out.Write(text)
	return err
}
