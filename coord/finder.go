package coord

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// defaultPort is where a member listens for clients.
const defaultPort = "7070"

// endpoint is the URL of a member, or of a name behind which there are several.
type endpoint struct {
	secure     bool
	host, port string
}

func (e endpoint) String() string {
	scheme := "http"
	if e.secure {
		scheme = "https"
	}
	return scheme + "://" + e.authority()
}

// authority is what a request names as its host: what was configured, not the address that it resolved to.
func (e endpoint) authority() string { return net.JoinHostPort(e.host, e.port) }

// parseEndpoint reads "host", "host:port" or "http[s]://host[:port]".
func parseEndpoint(s string, secure bool) (endpoint, error) {
	text := strings.TrimSpace(s)
	if !strings.Contains(text, "://") {
		text = map[bool]string{false: "http://", true: "https://"}[secure] + text
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
	case u.Scheme != "http" && u.Scheme != "https":
		err = fmt.Errorf("its scheme is %q", u.Scheme)
	case u.Hostname() == "":
		err = fmt.Errorf("it has no host")
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.User != nil:
		err = fmt.Errorf("it has more than a host and a port")
	}
	if err != nil {
		return endpoint{}, fmt.Errorf("%q is no endpoint, such as http://localhost:7070: %w", s, err)
	}
	e := endpoint{secure: u.Scheme == "https", host: u.Hostname(), port: u.Port()}
	if e.port == "" {
		e.port = defaultPort
	}
	return e, nil
}

// target is one address to try.
type target struct {
	endpoint
	addr string // host:port to dial
	err  error  // why there is none: the name can't be resolved
}

// maxLearned bounds the endpoints that members have told.
const maxLearned = 16

// finder knows where members may be. It is shared by the connections of a Client.
type finder struct {
	configured []endpoint
	lookup     func(ctx context.Context, host string) ([]string, error) // nil: names are the dialer's business
	float      func() float64                                           // random, in [0, 1)

	mu      sync.Mutex
	learned []endpoint
}

// learn remembers what a member says about where the others are. Those are asked after the configured ones only, and
// never without TLS if those have it, because they get the credentials too.
func (f *finder) learn(urls []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, u := range urls {
		e, err := parseEndpoint(u, f.configured[0].secure)
		known := slices.Contains(f.configured, e) || slices.Contains(f.learned, e)
		if err != nil || known || f.configured[0].secure && !e.secure || len(f.learned) == maxLearned {
			continue
		}
		f.learned = append(f.learned, e)
	}
}

// round returns every address to try, each once, in random order so that clients spread over the members; the one that
// failed last comes at the end. Names are resolved anew each time: members move.
func (f *finder) round(ctx context.Context, failed string) []target {
	f.mu.Lock()
	learned := slices.Clone(f.learned)
	f.mu.Unlock()
	all := append(f.shuffled(f.resolve(ctx, f.configured)), f.shuffled(f.resolve(ctx, learned))...)
	slices.SortStableFunc(all, func(a, b target) int { return last(a, failed) - last(b, failed) })
	return all
}

func last(t target, failed string) int {
	if t.addr == failed {
		return 1
	}
	return 0
}

func (f *finder) resolve(ctx context.Context, list []endpoint) []target {
	var all []target
	for _, e := range list {
		if f.lookup == nil || net.ParseIP(e.host) != nil {
			all = append(all, target{endpoint: e, addr: e.authority()})
			continue
		}
		addrs, err := f.lookup(ctx, e.host)
		if err != nil {
			all = append(all, target{endpoint: e, err: err})
		}
		for _, a := range addrs {
			all = append(all, target{endpoint: e, addr: net.JoinHostPort(a, e.port)})
		}
	}
	return all
}

func (f *finder) shuffled(all []target) []target {
	for i := len(all) - 1; i > 0; i-- {
		j := int(f.float() * float64(i+1))
		all[i], all[j] = all[j], all[i]
	}
	return all
}

const (
	backoffBase = 25 * time.Millisecond
	backoffCap  = 2 * time.Second
)

// backoff returns how long to wait before another attempt after so many failures, the first being 1: a random time from
// zero to a limit that doubles ("full jitter"), so that clients that failed together don't return together.
func backoff(failures int, limit time.Duration, float func() float64) time.Duration {
	most := min(backoffBase<<min(failures, 16), backoffCap, limit)
	return time.Duration(float() * float64(most))
}

func randomFloat() float64 { return rand.Float64() }
