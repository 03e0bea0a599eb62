package e2e_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/topology"
)

// object is what these tests read of an object in a cluster.
type object struct {
	Kind     string            `yaml:"kind"`
	Data     map[string]string `yaml:"data"`
	Metadata struct {
		Name string `yaml:"name"`
	} `yaml:"metadata"`
	Spec struct {
		Triggers []struct {
			Metadata struct {
				Stream   string `yaml:"stream"`
				Consumer string `yaml:"consumer"`
			} `yaml:"metadata"`
		} `yaml:"triggers"`
		Template struct {
			Spec struct {
				Grace      int `yaml:"terminationGracePeriodSeconds"`
				Containers []struct {
					Image string   `yaml:"image"`
					Args  []string `yaml:"args"`
					Ports []struct {
						Name string `yaml:"name"`
						Port int    `yaml:"containerPort"`
					} `yaml:"ports"`
				} `yaml:"containers"`
			} `yaml:"spec"`
		} `yaml:"template"`
	} `yaml:"spec"`
}

// rendered returns the objects that the Helm chart makes of one set of values;
// scripts/charts keeps them current.
func rendered(t *testing.T, file string) []object {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var objects []object
	for d := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var o object
		if err := d.Decode(&o); errors.Is(err, io.EOF) {
			return objects
		} else if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		objects = append(objects, o)
	}
}

// What the chart makes is what the programs take: the pipeline file, the ports,
// the time to stop, the consumers it scales by and the command that sets up.
func TestChartIsWhatProgramsTake(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../deploy/helm/rendered/*.yaml")
	if err != nil || len(files) < 3 {
		t.Fatalf("rendered: %v, %v", files, err)
	}
	for _, name := range files {
		t.Run(filepath.Base(name), func(t *testing.T) {
			t.Parallel()
			c := newChart(t, rendered(t, name))
			for _, o := range c.objects {
				switch o.Kind {
				case "Deployment":
					c.deployment(o)
				case "ScaledObject":
					c.scaled(o)
				case "Job":
					c.setup(o)
				}
			}
		})
	}
}

// chart is the objects of one set of values, and their pipeline file with its
// secrets where the test can have them.
type chart struct {
	*testing.T
	objects []object
	file    string
	of      *pipeline.File
}

var reference = regexp.MustCompile(`/run/(secrets|nats)/[\w.]+`)

func newChart(t *testing.T, objects []object) *chart {
	t.Helper()
	c := &chart{T: t, objects: objects, file: filepath.Join(t.TempDir(), "tercel.yaml")}
	var text string
	for _, o := range objects {
		if o.Kind != "ConfigMap" {
			continue
		}
		if text != "" && text != o.Data["tercel.yaml"] {
			t.Error("setup has another pipeline file than the services")
		}
		text = o.Data["tercel.yaml"]
	}
	dir := t.TempDir()
	text = reference.ReplaceAllStringFunc(text, func(ref string) string {
		there := filepath.Join(dir, path.Base(ref))
		write(t, there, "postgres://secret-of-enough-length/"+path.Base(ref)+"\n")
		return there
	})
	write(t, c.file, text)
	var err error
	if c.of, err = pipeline.Load(c.file); err != nil {
		t.Fatal(err)
	}
	return c
}

// deployment checks one service.
func (c *chart) deployment(o object) {
	c.Helper()
	spec := o.Spec.Template.Spec
	container := spec.Containers[0]
	service := serviceOf(container.Image)
	cmd := exec.Command(program(c.T, service), append(container.Args, "--check")...)
	cmd.Env = append(os.Environ(), "TERCEL_CONFIG="+c.file)
	if out, err := cmd.CombinedOutput(); err != nil {
		c.Errorf("%s: %v\n%s", service, err, out)
	}
	listens := map[string]string{"metrics": c.of.Telemetry.Listen}
	grace := c.of.Enricher.Timeout
	switch service {
	case "ingress":
		listens["http"] = c.of.Ingress.Listen
		grace = c.of.Ingress.DrainGrace + c.of.Ingress.DrainTimeout
	case "console":
		listens["http"] = c.of.Console.Listen
		grace = 10 * time.Second
	}
	for _, p := range container.Ports {
		if got, want := net.JoinHostPort("", strconv.Itoa(p.Port)), listens[p.Name]; got != want {
			c.Errorf("%s: port %s is %s, but the service listens on %s", service, p.Name, got, want)
		}
		delete(listens, p.Name)
	}
	if len(listens) > 0 {
		c.Errorf("%s: no ports for %v", service, listens)
	}
	if got := time.Duration(spec.Grace) * time.Second; got <= grace {
		c.Errorf("%s is killed after %s, but may need %s to stop", service, got, grace)
	}
}

// serviceOf returns the program that an image is of.
func serviceOf(image string) string {
	name, _, _ := strings.Cut(path.Base(image), ":")
	return name
}

// scaled checks that the consumers exist by which a service scales.
func (c *chart) scaled(o object) {
	c.Helper()
	want := map[string]string{}
	for name := range c.of.Sources {
		if strings.HasSuffix(o.Metadata.Name, "-enricher") {
			want[topology.EnrichDurable(name)] = topology.StreamRaw
		}
	}
	for name := range c.of.Destinations {
		if strings.HasSuffix(o.Metadata.Name, "-sink") {
			want[topology.DeliverDurable(name)] = topology.StreamEnriched
		}
	}
	for _, tr := range o.Spec.Triggers {
		if m := tr.Metadata; want[m.Consumer] != m.Stream {
			c.Errorf("%s scales by %s of %s", o.Metadata.Name, m.Consumer, m.Stream)
		} else {
			delete(want, m.Consumer)
		}
	}
	if len(want) > 0 {
		c.Errorf("%s does not scale by %v", o.Metadata.Name, want)
	}
}

// setup runs the job's command against a server, where the pipeline file has no
// users and one node is enough.
func (c *chart) setup(o object) {
	c.Helper()
	container := o.Spec.Template.Spec.Containers[0]
	args := container.Args
	server := "nats://127.0.0.1:1"
	if c.of.NATS.NKey == "" && c.of.Streams.Replicas == 1 {
		server = natstest.Start(c.T, false).URL()
	} else {
		args = append(args, "--help")
	}
	cmd := exec.Command(program(c.T, serviceOf(container.Image)), args...)
	cmd.Env = append(os.Environ(), "TERCEL_CONFIG="+c.file, "TERCEL_NATS="+server)
	if out, err := cmd.CombinedOutput(); err != nil {
		c.Errorf("%s: %v\n%s", o.Metadata.Name, err, out)
	}
}

// The chart alerts on what deploy/prometheus does; it can't read files outside.
func TestChartHasTheRules(t *testing.T) {
	t.Parallel()
	want, err := os.ReadFile("../../deploy/prometheus/rules/tercel.yml")
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../deploy/helm/tercel/rules/tercel.yml")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("deploy/helm/tercel/rules differs; copy deploy/prometheus/rules to it")
	}
}
