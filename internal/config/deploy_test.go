package config

import (
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// TestCompose starts nothing: it reads compose.yaml and the Dockerfile as a container engine would, and holds what each
// member is told against the option table and against what the others are told.
func TestCompose(t *testing.T) {
	compose := readCompose(t)
	image := readImage(t)
	if len(compose.Services) != 3 {
		t.Errorf("there are %d services", len(compose.Services))
	}
	var lists, ports, volumes []string
	for name, s := range compose.Services {
		if len(s.Command) == 0 || s.Command[0] != "serve" {
			t.Fatalf("%s runs %q", name, s.Command)
		}
		c, flags := New(), pflag.NewFlagSet("serve", pflag.ContinueOnError)
		c.Register(flags)
		if err := flags.Parse(s.Command[1:]); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := c.Load(flags, func(v string) (string, bool) { s, ok := image.env[v]; return s, ok }); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if c.Name != name || !slices.Contains(c.AllowHosts, name) {
			t.Errorf("%s is called %q and answers to %q", name, c.Name, c.AllowHosts)
		}
		for _, m := range c.Cluster {
			host, port, _ := net.SplitHostPort(m.Addr)
			if _, ok := compose.Services[host]; !ok || host != m.Name || ":"+port != c.PeerListen {
				t.Errorf("%s expects %s at %s", name, m.Name, m.Addr)
			}
		}
		if len(s.Volumes) != 1 || len(s.Ports) != 1 || !strings.HasSuffix(s.Ports[0], c.Listen) {
			t.Fatalf("%s has volumes %q and ports %q", name, s.Volumes, s.Ports)
		}
		volume, dir, _ := strings.Cut(s.Volumes[0], ":")
		if _, ok := compose.Volumes[volume]; !ok || dir != image.volume || !strings.HasPrefix(c.DataDir, dir+"/") {
			t.Errorf("%s keeps its data in %s, of volume %s at %s; the image has one at %s", name, c.DataDir, volume, dir, image.volume)
		}
		if got := strings.Join(s.Healthcheck.Test, " "); got != "CMD /coord check --member -q" {
			t.Errorf("%s is checked by %q", name, got)
		}
		if needed := c.HandOverTimeout + c.Limits.DrainTimeout; s.Grace <= needed {
			t.Errorf("%s gets %s to stop, and may take %s", name, s.Grace, needed)
		}
		lists = append(lists, members{&c.Cluster}.String())
		ports = append(ports, s.Ports[0])
		volumes = append(volumes, volume)
	}
	for what, all := range map[string]struct {
		of   []string
		want int
	}{"lists": {lists, 1}, "ports": {ports, 3}, "volumes": {volumes, 3}} {
		slices.Sort(all.of)
		if len(slices.Compact(all.of)) != all.want {
			t.Errorf("%s: %q", what, all.of)
		}
	}
}

type compose struct {
	Services map[string]struct {
		Command        []string
		Ports, Volumes []string
		Grace          time.Duration `yaml:"stop_grace_period"`
		Healthcheck    struct{ Test []string }
	}
	Volumes map[string]any
}

func readCompose(t *testing.T) (c compose) {
	text, err := os.ReadFile("../../compose.yaml")
	if err == nil {
		err = yaml.Unmarshal(text, &c)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// image is what the Dockerfile's last stage says.
type image struct {
	env    map[string]string
	volume string
}

var instruction = regexp.MustCompile(`(?m)^(ENV|VOLUME|USER|ENTRYPOINT|CMD|STOPSIGNAL|HEALTHCHECK) +(.+)$`)

func readImage(t *testing.T) image {
	text, err := os.ReadFile("../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	i, said := image{env: map[string]string{}}, map[string]string{}
	for _, m := range instruction.FindAllStringSubmatch(string(text), -1) {
		if name, v, _ := strings.Cut(m[2], "="); m[1] == "ENV" {
			i.env[name] = v
		} else {
			said[m[1]] = m[2]
		}
	}
	i.volume = said["VOLUME"]
	for _, want := range []string{"USER 65532:65532", `ENTRYPOINT ["/coord"]`, `CMD ["serve"]`, "STOPSIGNAL SIGTERM"} {
		name, v, _ := strings.Cut(want, " ")
		if said[name] != v {
			t.Errorf("the Dockerfile says %s %s; want %s", name, said[name], v)
		}
	}
	if !strings.HasSuffix(said["HEALTHCHECK"], `CMD ["/coord", "check", "--member", "-q"]`) {
		t.Errorf("the image is checked by %s", said["HEALTHCHECK"])
	}
	return i
}
