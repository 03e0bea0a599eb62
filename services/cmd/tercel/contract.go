package main

import (
	"fmt"

	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/services/internal/adminv1connect"
	"github.com/tercelhq/tercel/services/internal/contract"
	"github.com/tercelhq/tercel/services/internal/fileschema"
)

type contractCmd struct {
	JSONSchema jsonSchemaCmd `cmd:"" name:"jsonschema" help:"Print a JSON Schema of a file that people write."`
	AsyncAPI   asyncAPICmd   `cmd:"" name:"asyncapi" help:"Print the AsyncAPI document of a pipeline's enriched events."`
	OpenAPI    openAPICmd    `cmd:"" name:"openapi" help:"Print the OpenAPI document of the admin API."`
}

type asyncAPICmd struct {
	Config string `short:"c" help:"The pipeline file." default:"tercel.yaml" env:"TERCEL_CONFIG"`
}

// Help is shown by --help.
func (asyncAPICmd) Help() string {
	return `Prints the AsyncAPI 3.0 document (JSON) of the enriched events that downstream teams subscribe to: the subjects
of each source, the headers, and the body of each resource's events. It follows from the pipeline file, which
is read as the services read it, secrets included; none of them is printed.

Example:
  tercel contract asyncapi -c tercel.yaml > events.asyncapi.json`
}

// Run runs the command.
func (c asyncAPICmd) Run(a *app) error {
	file, err := pipeline.Load(c.Config)
	if err != nil {
		return err
	}
	text, err := contract.AsyncAPI(file)
	if err != nil {
		return fmt.Errorf("%s: %w", c.Config, err)
	}
	_, err = a.out.Write(text)
	return err
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
	Of     string `help:"What it describes: ${enum}." enum:"${schemas}" default:"pipeline"`
	Config string `short:"c" help:"The pipeline file, for the bodies of its enriched events." default:"tercel.yaml" env:"TERCEL_CONFIG"`
}

// ofEvents is the schema that follows from the pipeline file.
const ofEvents = "events"

// Help is shown by --help.
func (jsonSchemaCmd) Help() string {
	return `Prints a JSON Schema (2020-12) for editors and other programs: of the pipeline file, of a preset, or of a
file with accounts. It says which keys there are and what each takes; "tercel check" finds more.

An editor with a YAML language server completes and explains the pipeline file once the schema lies beside
it and the file begins with the line "# yaml-language-server: $schema=tercel.schema.json".

With --of events it is the schema of the bodies of the enriched events that a pipeline file makes.

Examples:
  tercel contract jsonschema --of pipeline > tercel.schema.json
  tercel contract jsonschema --of events -c tercel.yaml > events.schema.json`
}

// Run runs the command.
func (c jsonSchemaCmd) Run(a *app) error {
	text, known := fileschema.Of(c.Of)
	if !known { // the command line takes no other names
		file, err := pipeline.Load(c.Config)
		if err != nil {
			return err
		}
		if text, err = contract.Events(file); err != nil {
			return err
		}
	}
	_, err := a.out.Write(text)
	return err
}
