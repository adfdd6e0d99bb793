package coord

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"
)

// EnvEndpoints names the environment variable from which Dial takes the endpoints, separated by commas, unless it is
// given some.
const EnvEndpoints = "COORD_ENDPOINTS"

// defaultEndpoint is where `coord dev` listens.
const defaultEndpoint = "http://localhost:" + defaultPort

// config is what a Client is made of.
type config struct {
	endpoints   []string
	tls         *tls.Config
	credentials string // "user:password"
	header      string // Authorization; "" for none
	log         *slog.Logger
	dialer      func(ctx context.Context, network, addr string) (net.Conn, error)

	finder *finder
	dial   func(ctx context.Context, t target, alive func()) (link, error)
	float  func() float64

	counters *counters
}

// Option sets something of a Client.
type Option func(*config)

// WithEndpoints says where members are: "host", "host:port" or "http[s]://host[:port]", by default port 7070. A name
// may stand for several addresses; it is resolved anew for each attempt. One member that can be reached is enough.
func WithEndpoints(endpoints ...string) Option {
	return func(c *config) { c.endpoints = append(c.endpoints, endpoints...) }
}

// WithLogger has the Client log lost connections and failed attempts. By default nothing is logged.
func WithLogger(l *slog.Logger) Option { return func(c *config) { c.log = l } }

// WithTLS sets how members are verified and the Client proves itself. Endpoints without a scheme then are https.
func WithTLS(t *tls.Config) Option { return func(c *config) { c.tls = t } }

// WithBasicAuth makes the Client the identity digest:user:hash, by ZooKeeper's scheme: whoever knows the name and the
// password is that identity. Use TLS beyond loopback.
func WithBasicAuth(user, password string) Option {
	return func(c *config) {
		c.credentials = user + ":" + password
		c.header = "Basic " + base64.StdEncoding.EncodeToString([]byte(c.credentials))
	}
}

// WithToken sends a bearer token, for a proxy or a member that asks for one.
func WithToken(token string) Option { return func(c *config) { c.header = "Bearer " + token } }

// WithDialer sets what opens connections to members, instead of a net.Dialer: for proxies and for tests. It is given
// the host and port of an endpoint as they were configured, and has to resolve names itself.
func WithDialer(dial func(ctx context.Context, network, addr string) (net.Conn, error)) Option {
	return func(c *config) { c.dialer = dial }
}

// newConfig fills in what the options leave open.
func newConfig(opts []Option) (*config, error) {
	c := &config{float: randomFloat, counters: newCounters()}
	for _, o := range opts {
		o(c)
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if len(c.endpoints) == 0 {
		c.endpoints = strings.FieldsFunc(os.Getenv(EnvEndpoints), func(r rune) bool { return r == ',' || r == ' ' })
	}
	if len(c.endpoints) == 0 {
		c.endpoints = []string{defaultEndpoint}
	}
	c.finder = &finder{float: c.float, lookup: net.DefaultResolver.LookupHost}
	if c.dialer != nil {
		c.finder.lookup = nil
	} else {
		c.dialer = (&net.Dialer{KeepAlive: 15 * time.Second}).DialContext
	}
	var errs []error
	for _, s := range c.endpoints {
		e, err := parseEndpoint(s, c.tls != nil)
		errs = append(errs, err)
		c.finder.configured = append(c.finder.configured, e)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("couldn't read the endpoints: %w", err)
	}
	c.dial = c.dialWebSocket
	return c, nil
}
