package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

type completionCmd struct {
	Shell string `arg:"" help:"bash, zsh or fish." enum:"bash,zsh,fish"`
}

// Help is shown by --help.
func (completionCmd) Help() string {
	return `Examples:
  source <(tercel completion bash)                                   in ~/.bashrc
  source <(tercel completion zsh)                                    in ~/.zshrc, behind compinit
  tercel completion fish > ~/.config/fish/completions/tercel.fish`
}

// completions ask the program itself, so that they are never behind it.
var completions = map[string]string{
	"bash": `_tercel() {
    local IFS=$'\n'
    COMPREPLY=($(tercel complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null | cut -f1))
}
complete -o default -F _tercel tercel
`,
	"zsh": `#compdef tercel
_tercel() {
    local -a found
    local line
    for line in ${(f)"$(tercel complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)"}; do
        found+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
    done
    if (( $#found )); then _describe -t commands tercel found; else _files; fi
}
compdef _tercel tercel
`,
	"fish": `complete -c tercel -e
complete -c tercel -a '(tercel complete -- (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'
`,
}

// Run runs the command.
func (c completionCmd) Run(a *app) error {
	_, err := fmt.Fprint(a.out, completions[c.Shell])
	return err
}

type completeCmd struct {
	Words []string `arg:"" optional:"" passthrough:"" help:"The words so far; the last is the one to complete."`
}

// Run runs the command.
func (c completeCmd) Run(a *app) error {
	words := c.Words
	if len(words) > 0 && words[0] == "--" {
		words = words[1:]
	}
	if len(words) == 0 {
		words = []string{""}
	}
	for _, s := range complete(a.words.Node, words) {
		if _, err := fmt.Fprintf(a.out, "%s\t%s\n", s.word, s.about); err != nil {
			return err
		}
	}
	return nil
}

// suggestion is a word that may follow.
type suggestion struct{ word, about string }

// complete returns what the last of the words may become. None means what only
// the user knows, such as a file or a name.
func complete(node *kong.Node, words []string) []suggestion {
	last := words[len(words)-1]
	var waiting *kong.Flag // the flag whose value is next
	arguments := 0
	for _, w := range words[:len(words)-1] {
		switch {
		case waiting != nil:
			waiting = nil
		case strings.HasPrefix(w, "-"):
			if f := flagOf(node, w); f != nil && !f.IsBool() && !strings.Contains(w, "=") {
				waiting = f
			}
		default:
			if child := childOf(node, w); child != nil {
				node = child
			} else {
				arguments++
			}
		}
	}
	var found []suggestion
	switch {
	case waiting != nil:
		found = valuesOf(waiting.Value)
	case len(node.Children) > 0 && arguments > 0: // no such command
	case strings.HasPrefix(last, "-"):
		found = flagsOf(node)
	default:
		for _, child := range node.Children {
			if !child.Hidden {
				found = append(found, suggestion{child.Name, child.Help})
			}
		}
		if arguments < len(node.Positional) {
			found = append(found, valuesOf(node.Positional[arguments])...)
		}
	}
	return slices.DeleteFunc(found, func(s suggestion) bool { return !strings.HasPrefix(s.word, last) })
}

func childOf(node *kong.Node, name string) *kong.Node {
	for _, child := range node.Children {
		if child.Name == name {
			return child
		}
	}
	return nil
}

func flagsOf(node *kong.Node) (all []suggestion) {
	for _, group := range node.AllFlags(true) {
		for _, f := range group {
			all = append(all, suggestion{"--" + f.Name, f.Help})
		}
	}
	return all
}

// flagOf is the flag that a word names.
func flagOf(node *kong.Node, w string) *kong.Flag {
	name, _, _ := strings.Cut(w, "=")
	for _, group := range node.AllFlags(false) {
		for _, f := range group {
			if name == "--"+f.Name || f.Short != 0 && name == "-"+string(f.Short) {
				return f
			}
		}
	}
	return nil
}

// valuesOf are those of a closed set.
func valuesOf(v *kong.Value) (all []suggestion) {
	for _, s := range v.EnumSlice() {
		if s != "" {
			all = append(all, suggestion{s, ""})
		}
	}
	return all
}
