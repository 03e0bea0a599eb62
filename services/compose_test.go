package services_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// composeService is what the checks look at of a service.
type composeService struct {
	Ports   []string `yaml:"ports"`
	Volumes []string `yaml:"volumes"`
	Secrets []string `yaml:"secrets"`
}

// composeFile is what the checks look at of a file.
type composeFile struct {
	Services map[string]composeService `yaml:"services"`
	Volumes  map[string]any            `yaml:"volumes"`
	Secrets  map[string]any            `yaml:"secrets"`
}

func readCompose(t *testing.T, name string) (f composeFile, text string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../deploy/compose", name))
	if err != nil {
		t.Fatal(err)
	}
	// What is merged into a map may be written again beside.
	if err := yaml.UnmarshalWithOptions(b, &f, yaml.AllowDuplicateMapKey()); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return f, string(b)
}

// What stands in the compose files is there: files that are mounted, volumes,
// secrets that are made, and variables that the reader is told of.
func TestWhatComposeNamesIsThere(t *testing.T) {
	t.Parallel()
	f, text := readCompose(t, "compose.yaml")
	if len(f.Services) < 10 {
		t.Fatalf("%d services read, want all of them", len(f.Services))
	}
	for name, s := range f.Services {
		for _, v := range s.Volumes {
			source, _, _ := strings.Cut(v, ":")
			if !strings.HasPrefix(source, ".") {
				if _, ok := f.Volumes[source]; !ok {
					t.Errorf("%s: volume %s is not declared", name, source)
				}
			} else if _, err := os.Stat(filepath.Join("../deploy/compose", source)); err != nil {
				t.Errorf("%s: mounts what isn't there: %v", name, err)
			}
		}
		for _, secret := range s.Secrets {
			if _, ok := f.Secrets[secret]; !ok {
				t.Errorf("%s: secret %s is not declared", name, secret)
			}
		}
	}
	made, err := os.ReadFile("../deploy/compose/make-secrets")
	if err != nil {
		t.Fatal(err)
	}
	for secret := range f.Secrets {
		if !strings.Contains(string(made), secret) {
			t.Errorf("secret %s: make-secrets doesn't make it", secret)
		}
	}
	readme, err := os.ReadFile("../deploy/compose/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`\$\{([A-Z_]+)`).FindAllStringSubmatch(text, -1) {
		if !strings.Contains(string(readme), "`"+m[1]+"`") {
			t.Errorf("variable %s: README.md doesn't tell of it", m[1])
		}
	}
}

// Ports are published to the machine itself alone, each once, and of services
// that there are.
func TestComposePublishesOnLoopbackOnly(t *testing.T) {
	t.Parallel()
	f, _ := readCompose(t, "compose.yaml")
	for name, s := range f.Services {
		if len(s.Ports) > 0 {
			t.Errorf("%s: ports %q; they belong to compose.override.yaml", name, s.Ports)
		}
	}
	published, _ := readCompose(t, "compose.override.yaml")
	taken := map[string]string{}
	for name, s := range published.Services {
		if _, ok := f.Services[name]; !ok {
			t.Errorf("%s: no such service in compose.yaml", name)
		}
		for _, p := range s.Ports {
			port, ok := strings.CutPrefix(p, "127.0.0.1:")
			if !ok {
				t.Errorf("%s: port %s, want one of 127.0.0.1", name, p)
			}
			port, _, _ = strings.Cut(port, ":")
			if other, twice := taken[port]; twice {
				t.Errorf("%s: port %s is that of %s", name, port, other)
			}
			taken[port] = name
		}
	}
}
