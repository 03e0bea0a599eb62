// Package contract writes down what downstream teams may rely on: the enriched
// events that a pipeline file makes, as an AsyncAPI document and as JSON Schema.
//
// Both follow from the file and say no more than Tercel knows: which subjects
// there are, what the headers mean, and what stands around a record. What is in
// a record is the provider's, and its own documentation tells.
package contract

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/tercelhq/tercel/pkg/event"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/provider"
)

// object is a JSON object.
type object = map[string]any

// message is a kind of enriched event: those of a resource, or those of a source
// that are about no record.
type message struct {
	source, resource string
	of               provider.Resource
}

// plain is what the events about no record are called, beside the resources. No
// resource has a name with an underscore in front.
const plain = "_event"

func (m message) key() string { return m.source + "." + m.resource }

// messages lists the kinds of events by source and resource.
func messages(file *pipeline.File) []message {
	var all []message
	for _, source := range slices.Sorted(maps.Keys(file.Sources)) {
		resources := file.Sources[source].Resources
		for _, name := range slices.Sorted(maps.Keys(resources)) {
			all = append(all, message{source, name, resources[name]})
		}
		all = append(all, message{source: source, resource: plain})
	}
	return all
}

// AsyncAPI returns the AsyncAPI 3.0 document of a pipeline's enriched events as
// indented JSON: a channel for each source, and a message for each of its
// resources. The error says which address of a server can't be read.
func AsyncAPI(file *pipeline.File) ([]byte, error) {
	servers, err := servers(file.NATS.URL)
	if err != nil {
		return nil, err
	}
	channels, operations := object{}, object{}
	components := object{}
	schemas := object{"attributes": attributes()}
	for _, source := range slices.Sorted(maps.Keys(file.Sources)) {
		channels[source] = channel(source)
		operations[source] = object{
			"action": "send", "channel": ref("channels", source),
			"summary": "Enriched events of the source " + source + ".",
		}
	}
	for _, m := range messages(file) {
		key := m.key()
		schemas[key] = m.schema()
		components[key] = m.component()
		channels[m.source].(object)["messages"].(object)[m.resource] = ref("components", "messages", key)
	}
	return indented(object{
		"asyncapi":           "3.0.0",
		"info":               info(),
		"defaultContentType": "application/json",
		"servers":            servers,
		"channels":           channels,
		"operations":         operations,
		"components":         object{"messages": components, "schemas": schemas},
	})
}

// Events returns the JSON Schema (2020-12) of the bodies of a pipeline's
// enriched events, as indented JSON. Each kind of event has a definition named
// SOURCE.RESOURCE, and a body matches the schema if it matches one of them.
func Events(file *pipeline.File) ([]byte, error) {
	definitions, any := object{}, []object{}
	for _, m := range messages(file) {
		definitions[m.key()] = m.schema()
		any = append(any, object{"$ref": "#/$defs/" + m.key()})
	}
	schema := object{
		"$schema": "https://json-schema.org/draft/2020-12/schema",
		"title":   "Body of an enriched event", "$defs": definitions,
	}
	if len(any) > 0 {
		schema["anyOf"] = any
	}
	return indented(schema)
}

func info() object {
	return object{
		"title": "Enriched events", "version": "1.0.0",
		"description": "Changes at the sources of a Tercel pipeline, each with the full record. Delivery is at least once and in no " +
			"particular order: deduplicate by the header ce-id within source and account, and keep of each record the greatest " +
			"tercel-version. Fields are only ever added; ignore what you don't know.",
	}
}

// servers are the addresses without what logs in.
func servers(urls string) (object, error) {
	all := object{}
	for i, text := range strings.Split(urls, ",") {
		text = strings.TrimSpace(text)
		if !strings.Contains(text, "://") {
			text = "nats://" + text
		}
		u, err := url.Parse(text)
		if err != nil || u.Host == "" {
			return nil, fmt.Errorf("nats.url: address %d is no URL; want nats://HOST:PORT", i+1)
		}
		name := "nats"
		if i > 0 {
			name = fmt.Sprintf("nats%d", i+1)
		}
		all[name] = object{"host": u.Host, "protocol": u.Scheme}
	}
	return all, nil
}

func channel(source string) object {
	return object{
		"address":     event.PrefixEnriched + "." + source + ".{account}.{type}",
		"title":       source,
		"description": "Stream TERCEL_ENRICHED. Subscribe to all with " + event.PrefixEnriched + "." + source + ".>, by a durable consumer of your own.",
		"parameters": object{
			"account": object{"description": "The account at the source, or " + event.NoAccount + " where there is but one. What a subject can't hold is written as % and two hex digits."},
			"type":    object{"description": "The event type in the source's own spelling, whose dots separate tokens: match it with >."},
		},
		"messages": object{},
	}
}

func (m message) component() object {
	title, summary := m.resource+" of "+m.source, "The record changed or is gone."
	if m.resource == plain {
		title, summary = "other event of "+m.source, "An event about no resource of the pipeline file, as it was received."
	} else {
		summary += " Triggered by " + strings.Join(m.of.Triggers, ", ") + ", and by reconciliation."
	}
	return object{
		"name": m.key(), "title": title, "summary": summary, "contentType": "application/json",
		"headers": ref("components", "schemas", "attributes"), "payload": ref("components", "schemas", m.key()),
		"correlationId": object{"location": "$message.header#/ce-id", "description": "The same for each repeat and replay of an event."},
	}
}

func ref(path ...string) object { return object{"$ref": "#/" + strings.Join(path, "/")} }

func indented(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("contract: %w", err)
	}
	return b.Bytes(), nil
}
