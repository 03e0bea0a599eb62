package boot_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/internal/boot"
	"github.com/tercelhq/tercel/services/internal/chaos/link"
)

// parts are three servers whose routes can be held.
type parts struct {
	servers []*natstest.Server
	routes  [3][3]*link.Link // by who wants to get to whom
}

func newParts(t *testing.T) *parts {
	t.Helper()
	p := &parts{}
	p.servers = natstest.ClusterVia(t, false, func(from, to int, addr string) string {
		p.routes[from][to] = listen(t, addr)
		return p.routes[from][to].Addr()
	})
	return p
}

func listen(t *testing.T, addr string) *link.Link {
	t.Helper()
	l, err := link.Listen(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// hold lets nothing pass to or from the servers, and nothing end.
func (p *parts) hold(names ...string) {
	for i, from := range p.servers {
		for j, to := range p.servers {
			for _, name := range names {
				if i != j && (from.Name() == name || to.Name() == name) {
					p.routes[i][j].Hold()
				}
			}
		}
	}
}

func (p *parts) mend() {
	for i, links := range p.routes {
		for j, l := range links {
			if i != j {
				l.Mend()
			}
		}
	}
}

func (p *parts) urls() string {
	var urls []string
	for _, s := range p.servers {
		urls = append(urls, s.URL())
	}
	return strings.Join(urls, ",")
}

// client is what a service is built from, of one that runs until the test ends.
type client struct {
	boot.Env
	service boot.Service
	log     *lines
	stored  int
}

func serve(t *testing.T, url string, replicas int) *client {
	t.Helper()
	file := pipeline.Default()
	file.NATS.URL, file.Streams.Replicas = url, replicas
	c := &client{log: &lines{}}
	built := make(chan boot.Env, 1)
	c.service = boot.NewStarter("test", file, boot.NewLogger(c.log, "info"), func(env boot.Env) (boot.Service, error) {
		built <- env
		return &fake{}, nil
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.service.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run() = %v", err)
		}
	})
	select {
	case c.Env = <-built:
	case err := <-ended:
		t.Fatalf("Run() = %v", err)
	case <-time.After(2 * time.Minute):
		t.Fatal("not built within two minutes")
	}
	return c
}

// store publishes one message until it is acknowledged.
func (c *client) store(t *testing.T) {
	t.Helper()
	c.stored++
	eventually(t, fmt.Sprint("message ", c.stored, " is stored"), func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := c.JetStream.Publish(ctx, "tercel.raw.orders._.order.paid", nil, jetstream.WithMsgID(fmt.Sprint(c.stored)))
		return err == nil
	})
}

// checkStored checks that each message is stored, and once.
func (c *client) checkStored(t *testing.T) {
	t.Helper()
	eventually(t, "the stream has a leader", func() bool {
		s, err := c.JetStream.Stream(t.Context(), topology.StreamRaw)
		if err != nil || s.CachedInfo().Cluster.Leader == "" {
			return false
		}
		if got := int(s.CachedInfo().State.Msgs); got != c.stored {
			t.Errorf("%d messages are stored, want %d", got, c.stored)
		}
		return true
	})
}

// left returns when servers were left, as the log says.
func (c *client) left(t *testing.T) (at []time.Time) {
	t.Helper()
	for line := range strings.Lines(c.log.String()) {
		var said struct {
			Time time.Time `json:"time"`
			Msg  string    `json:"msg"`
		}
		if err := json.Unmarshal([]byte(line), &said); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if strings.HasPrefix(said.Msg, "nats server left") {
			at = append(at, said.Time)
		}
	}
	return at
}

// lead makes a server the stream's leader.
func (c *client) lead(t *testing.T, server string) {
	t.Helper()
	eventually(t, server+" leads the stream", func() bool {
		s, err := c.JetStream.Stream(t.Context(), topology.StreamRaw)
		if err != nil || s.CachedInfo().Cluster.Leader == "" {
			return false
		}
		if s.CachedInfo().Cluster.Leader == server {
			return true
		}
		_, _ = c.Conn.Request("$JS.API.STREAM.LEADER.STEPDOWN."+topology.StreamRaw,
			fmt.Appendf(nil, `{"placement":{"preferred":%q}}`, server), 5*time.Second)
		return false
	})
}

// A server that is cut off from the others keeps its connections. A service
// leaves it for one that stores what is published, and nothing is lost or doubled,
// even where the server led the stream and goes on as if it did.
func TestAServiceLeavesAServerThatIsCutOff(t *testing.T) {
	t.Parallel()
	p := newParts(t)
	c := serve(t, p.urls(), 3)
	c.store(t)
	server := c.Conn.ConnectedServerName()
	c.lead(t, server)
	p.hold(server)
	began := time.Now()
	c.store(t)
	t.Logf("stored %s after %s was cut off", time.Since(began), server)
	if now := c.Conn.ConnectedServerName(); now == server {
		t.Errorf("still connected to %s, which is cut off", server)
	}
	if log := c.log.String(); !strings.Contains(log, "nats server left: no answer of jetstream") {
		t.Errorf("want a line that %s was left:\n%s", server, log)
	}
	eventually(t, "the service is ready", func() bool { return c.service.Healthy(t.Context()) == nil })
	p.mend()
	c.store(t)
	c.checkStored(t)
}

// What counts is when the leader heard of a majority.
func TestSilenceCountsFromTheLastMajority(t *testing.T) {
	t.Parallel()
	peer := func(age time.Duration) *jetstream.PeerInfo { return &jetstream.PeerInfo{Active: age} }
	offline := &jetstream.PeerInfo{Offline: true}
	never := time.Duration(-1)
	tests := map[string]struct {
		cluster *jetstream.ClusterInfo
		want    time.Duration // ago
	}{
		"a server without others":          {nil, 0},
		"one replica":                      {&jetstream.ClusterInfo{Leader: "a"}, 0},
		"nobody leads":                     {&jetstream.ClusterInfo{Replicas: []*jetstream.PeerInfo{peer(0), peer(0), peer(0)}}, never},
		"one of three is away":             {&jetstream.ClusterInfo{Leader: "a", Replicas: []*jetstream.PeerInfo{peer(time.Hour), peer(time.Second)}}, time.Second},
		"two of three are away":            {&jetstream.ClusterInfo{Leader: "a", Replicas: []*jetstream.PeerInfo{peer(time.Hour), peer(time.Minute)}}, time.Minute},
		"one of three is known to be down": {&jetstream.ClusterInfo{Leader: "a", Replicas: []*jetstream.PeerInfo{offline, peer(time.Second)}}, time.Second},
		"two of three are known to be":     {&jetstream.ClusterInfo{Leader: "a", Replicas: []*jetstream.PeerInfo{offline, offline}}, never},
		"one of two is away":               {&jetstream.ClusterInfo{Leader: "a", Replicas: []*jetstream.PeerInfo{peer(time.Hour)}}, time.Hour},
		"two of five are away": {&jetstream.ClusterInfo{Leader: "a", Replicas: []*jetstream.PeerInfo{
			peer(time.Hour), peer(2 * time.Second), peer(time.Second), offline,
		}}, 2 * time.Second},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			now := time.Now()
			got, err := boot.MajorityAt(tt.cluster, now)
			if (err != nil) != (tt.want == never) || err == nil && now.Sub(got) != tt.want {
				t.Errorf("MajorityAt() = %s ago, %v; want %s", now.Sub(got), err, tt.want)
			}
		})
	}
}

// While no server has a majority, a service says that it isn't ready, tries others
// less and less often, and goes on when there is a majority again. It does so where
// it knows one address, since that may stand for all servers.
func TestAServiceDoesNotRushFromServerToServer(t *testing.T) {
	t.Parallel()
	p := newParts(t)
	c := serve(t, p.servers[0].URL(), 3)
	c.store(t)
	p.hold(p.servers[0].Name(), p.servers[1].Name(), p.servers[2].Name())
	eventually(t, "the service is not ready", func() bool {
		err := c.service.Healthy(t.Context())
		return err != nil && strings.Contains(err.Error(), "no answer of jetstream for ")
	})
	eventually(t, "two servers were left", func() bool { return len(c.left(t)) > 1 })
	if at := c.left(t); at[1].Sub(at[0]) < 9*time.Second {
		t.Errorf("the second server was left %s after the first, want 10s at least", at[1].Sub(at[0]))
	}
	if c.service.Healthy(t.Context()) == nil {
		t.Error("the service is ready without a majority")
	}
	p.mend()
	c.store(t)
	eventually(t, "the service is ready", func() bool { return c.service.Healthy(t.Context()) == nil })
	c.checkStored(t)
}

// A server without others is not left for another, whatever it does.
func TestAServiceStaysAtTheOnlyServer(t *testing.T) {
	t.Parallel()
	l := listen(t, strings.TrimPrefix(natstest.Start(t, false).URL(), "nats://"))
	c := serve(t, "nats://"+l.Addr(), 1)
	l.Hold()
	held := time.Now()
	eventually(t, "silence beyond the time after which others would be left", func() bool {
		return time.Since(held) > 12*time.Second && c.service.Healthy(t.Context()) != nil
	})
	l.Mend()
	eventually(t, "the service is ready", func() bool { return c.service.Healthy(t.Context()) == nil })
	if len(c.left(t)) > 0 {
		t.Errorf("the server was left:\n%s", c.log)
	}
}

// One question without an answer is met by every stream that elects its leader:
// the server is left after two, or where it says itself since when it hears of no
// majority.
func TestAServerIsLeftForMoreThanOneSilence(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		at, silent time.Duration // since the server was reached, and since something was heard
		unanswered int
		want       bool
	}{
		"all is answered":                {time.Hour, time.Second, 0, false},
		"one answer is late":             {time.Hour, 9 * time.Second, 1, false},
		"two are, within the time":       {time.Hour, 4 * time.Second, 2, false},
		"two are":                        {time.Hour, 6 * time.Second, 2, true},
		"it says that it is cut off":     {time.Hour, 6 * time.Second, 0, true},
		"it was reached a moment ago":    {4 * time.Second, time.Hour, 2, false},
		"it was reached, and is no help": {6 * time.Second, time.Hour, 2, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begin := time.Now()
			if got := boot.NewStay(begin).Over(begin.Add(tt.at), tt.silent, tt.unanswered); got != tt.want {
				t.Errorf("Over() = %t, want %t", got, tt.want)
			}
		})
	}
}

// Each server that is left without an answer from the next makes the wait longer,
// up to a minute, and an answer makes it short again.
func TestServersAreLeftLessAndLessOften(t *testing.T) {
	t.Parallel()
	now := time.Now()
	stay, silent := boot.NewStay(now), time.Duration(0)
	for _, want := range []time.Duration{5, 10, 20, 40, 60, 60} {
		want *= time.Second
		if early := silent + want; stay.Over(now.Add(want), early, 2) {
			t.Errorf("left after %s", want)
		}
		silent += want + 1
		if now = now.Add(want + 1); !stay.Over(now, silent, 2) {
			t.Errorf("not left after %s", want+1)
		}
		stay.Leave(now)
	}
	stay.Over(now, time.Second, 0)
	if now = now.Add(6 * time.Second); !stay.Over(now, 6*time.Second, 2) {
		t.Error("not left as early as the first, after an answer")
	}
}

// Answers that are late, each later than the next question, are answers.
func TestAServiceIsReadyWhereAnswersAreSlow(t *testing.T) {
	t.Parallel()
	l := listen(t, strings.TrimPrefix(natstest.Start(t, false).URL(), "nats://"))
	c := serve(t, "nats://"+l.Addr(), 1)
	l.Delay(1800 * time.Millisecond)
	slow := time.Now()
	eventually(t, "slowness beyond the time after which silence would tell", func() bool { return time.Since(slow) > 12*time.Second })
	eventually(t, "the service is ready", func() bool { return c.service.Healthy(t.Context()) == nil })
}
