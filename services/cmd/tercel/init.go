package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/tercelhq/tercel/pkg/provider"
)

type initCmd struct {
	Preset string `help:"Begin with a source of this provider: ${presets}." placeholder:"NAME"`
	Output string `short:"o" help:"The file to write; - for standard output." default:"tercel.yaml"`
	Force  bool   `help:"Overwrite the file if it exists."`
}

// Help is shown by --help.
func (initCmd) Help() string {
	return `Writes a pipeline file that explains itself. Without --preset it describes a source that no
preset knows: how it signs, where ids and types are, and how its records are got and listed.
"tercel contract jsonschema" has every setting.

Example:
  tercel init --preset github`
}

// Run runs the command.
func (c initCmd) Run(a *app) error {
	text := genericFile
	if c.Preset != "" {
		p, ok := provider.LookupPreset(c.Preset)
		if !ok {
			return fmt.Errorf("--preset %s: no such preset; want one of %s", c.Preset, strings.Join(provider.PresetNames(), ", "))
		}
		text = presetFile(c.Preset, p)
	}
	if c.Output == "-" {
		_, err := fmt.Fprint(a.out, text)
		return err
	}
	flags := os.O_CREATE | os.O_WRONLY | os.O_EXCL
	if c.Force {
		flags = os.O_CREATE | os.O_WRONLY | os.O_TRUNC
	}
	f, err := os.OpenFile(c.Output, flags, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists; write another file with --output, or this one with --force", c.Output)
	}
	if err != nil {
		return err
	}
	_, werr := f.WriteString(text)
	if err := errors.Join(werr, f.Close()); err != nil {
		return err
	}
	fmt.Fprintf(a.err, "wrote %s; set the variables that it names, then run \"tercel check\" and \"tercel up\"\n", c.Output)
	return nil
}

const fileHead = `# What Tercel takes in, where it gets the full records, and where it delivers.
# Secrets are references only: env:NAME or file:/path.
# "tercel check" finds every mistake in this file, "tercel up" runs it.

sources:
`

const fileTail = `
# Without destinations, "tercel up" writes to tercel-data/tercel.db (SQLite).
# destinations:
#   warehouse: {sqlite: {path: warehouse.db}}
#   archive: {files: {dir: archive}, subscribe: ["*.*.>"]}
`

const genericFile = fileHead + `  orders:                                  # webhooks come to POST /v1/orders
    verify:                                # how the sender signs
      scheme: hmac-sha256
      header: X-Signature
      encoding: hex
      signed: "{timestamp}.{body}"
      timestamp: X-Timestamp               # Unix seconds, at most 5m off
    secrets: [env:ORDERS_WEBHOOK_SECRET]   # several while you rotate them
    event:
      id: header.X-Delivery                # the same on every repeat
      type: body.type
    # To enrich events with the full record, and to find what webhooks missed:
    # api: {base: "https://orders.example.com", token: env:ORDERS_API_TOKEN}
    # resources:
    #   order:
    #     triggers: [order.*]              # the event types that speak of it
    #     id: body.order.id
    #     get: /orders/{id}
    #     version: record.updated_at       # newest wins
    #     reconcile: {every: 1h, list: /orders, since: updated_after, items: orders, next: next_cursor}
` + fileTail

func presetFile(name string, p *provider.Preset) string {
	env := strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s:  # webhooks come to POST /v1/%s\n", fileHead, name, name)
	fmt.Fprintf(&b, "    preset: %s  # %s\n", name, p.Docs)
	b.WriteString(deliveryNote(p.Delivery))
	if p.TakesSecrets() {
		fmt.Fprintf(&b, "    # %s; several while you rotate it.\n", p.Secret)
		fmt.Fprintf(&b, "    secrets: [env:%s_WEBHOOK_SECRET]\n", env)
	} else if e := p.SenderKeys.Endpoint; e != nil {
		fmt.Fprintf(&b, "    # %s.\n    api:\n      headers:\n", p.Secret)
		for _, name := range e.Credentials {
			fmt.Fprintf(&b, "        %s: env:%s\n", name, strings.ToUpper(strings.ReplaceAll(name, "-", "_")))
		}
		return b.String() + fileTail
	}
	if p.SignsURL() {
		fmt.Fprintf(&b, "    public_url: https://hooks.example.com/v1/%s  # as you told it to the sender, who signs it\n", name)
	}
	b.WriteString(handshakeProposals(name, env, p))
	api := fmt.Sprintf("token: env:%s_API_TOKEN", env)
	if p.API.TokenHeader != "" {
		api = fmt.Sprintf("headers: {%s: env:%s_API_TOKEN}", p.API.TokenHeader, env)
	}
	if p.API.Base == "" {
		api = "base: \"https://api.example.com\", " + api
	}
	names := slices.Sorted(maps.Keys(p.Resources))
	if len(names) == 0 {
		b.WriteString("    # To enrich events with the full record; \"tercel init\" without a preset shows a resource:\n")
		fmt.Fprintf(&b, "    # api: {%s}\n", api)
		return b.String() + fileTail
	}
	purpose := "To enrich events with the full record"
	for _, r := range p.Resources {
		if r.Reconcile != nil {
			purpose = "To enrich events with the full record, and to find what webhooks missed"
		}
	}
	fmt.Fprintf(&b, "    # %s:\n    # api: {%s}\n    # resources: [%s]\n", purpose, api, strings.Join(names, ", "))
	return b.String() + fileTail
}

// deliveryNote says how much the webhooks alone can be relied on.
func deliveryNote(d provider.Delivery) string {
	var says []string
	if d.Timeout > 0 {
		says = append(says, "an answer is waited for "+brief(d.Timeout))
	}
	if d.Retries != "" {
		retries := "retries: " + d.Retries
		if d.Horizon > 0 {
			retries += ", for " + brief(d.Horizon)
		}
		says = append(says, retries)
	}
	if len(says) == 0 {
		return ""
	}
	return "    # How it delivers: " + strings.Join(says, "; ") + ".\n"
}

// brief is d as a pipeline file has it, such as 10s or 28h.
func brief(d time.Duration) string {
	text := d.String()
	for _, nothing := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, nothing) {
			text = text[:len(text)-2]
		}
	}
	return text
}

// handshakeProposals are what a user may have to say of the preset's handshakes.
func handshakeProposals(name, env string, p *provider.Preset) string {
	var b strings.Builder
	for _, shake := range slices.Sorted(maps.Keys(p.Handshakes)) {
		h := p.Handshakes[shake]
		if !h.Check.IsZero() {
			fmt.Fprintf(&b, "    # It tests the address; what %s of the test has to be, for it to pass:\n", h.Check)
			fmt.Fprintf(&b, "    # handshakes: {%s: {secrets: [env:%s_HANDSHAKE]}}  # or allowed: [TEXT], where it is no secret\n", shake, env)
		}
		if !h.Brings.IsZero() {
			b.WriteString("    # A test of the address brings the secret, so begin with one that you make up. To have\n")
			b.WriteString("    # it in a file, from which you take it once the provider has confirmed it:\n")
			fmt.Fprintf(&b, "    # handshakes: {%s: {save_to: /var/lib/tercel/%s-secret}}\n", shake, name)
		}
	}
	return b.String()
}
