package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/coord-kv/coord/op"
)

const configURL = "/v1/config"

func configOf(app string) string { return configURL + "/" + url.PathEscape(app) }

// Configs lists the applications that have a configuration.
type Configs struct {
	Answer `json:"-"`
	Apps   []string `json:"apps"`
}

// ConfigVersion is one version of an application's configuration.
type ConfigVersion struct {
	Answer       `json:"-"`
	App          string    `json:"app"`
	Version      int64     `json:"version"`
	Author       string    `json:"author"`
	Comment      string    `json:"comment"`
	Set          int       `json:"set"`
	Deleted      int       `json:"deleted"`
	RolledBackTo int64     `json:"rolled_back_to"`
	Time         time.Time `json:"time"`
	Zxid         op.Zxid   `json:"zxid"`
	Value        *string   `json:"value"` // in the history of one key
}

// AppConfig is a configuration at one version.
type AppConfig struct {
	ConfigVersion
	Values map[string]string `json:"values"`
	Next   op.Zxid           `json:"next"`
}

// ETag is for Write.IfMatch; "" if there is no configuration.
func (c *AppConfig) ETag() string { return strings.Trim(c.Header.Get("Etag"), `"`) }

// ConfigHistory lists versions, the newest first.
type ConfigHistory struct {
	Answer   `json:"-"`
	Versions []ConfigVersion `json:"versions"`
}

// ConfigDiff is what differs between two versions.
type ConfigDiff struct {
	Answer  `json:"-"`
	From    int64 `json:"from"`
	To      int64 `json:"to"`
	Changes []struct {
		Key  string  `json:"key"`
		From *string `json:"from"`
		To   *string `json:"to"`
	} `json:"changes"`
}

// ConfigChange is a new version: of Values, where nil deletes a key, or a rollback to Version.
type ConfigChange struct {
	Values  map[string]*string `json:"values,omitzero"`
	Version int64              `json:"version,omitempty"`
	Keys    []string           `json:"keys,omitempty"`
	Author  string             `json:"author,omitempty"`
	Comment string             `json:"comment,omitempty"`

	Replace bool `json:"-"` // keys that Values doesn't have go
	Absent  bool `json:"-"` // only if there is no configuration yet
}

// Configs lists the applications that have a configuration.
func (c *Client) Configs(ctx context.Context, o Read) (*Configs, error) {
	return decode[Configs](c.Do(ctx, read(configURL, nil, o)))
}

// AppConfig reads a configuration at a version; 0 is as it is.
func (c *Client) AppConfig(ctx context.Context, app string, version int64, o Read) (*AppConfig, error) {
	q := url.Values{}
	if version > 0 {
		q.Set("version", strconv.FormatInt(version, 10))
	}
	return decode[AppConfig](c.Do(ctx, read(configOf(app), q, o)))
}

// AwaitConfig reads a configuration once it has changed after a position, or when the wait is over. Requests have to be
// bounded by ctx.
func (c *Client) AwaitConfig(ctx context.Context, app string, since op.Zxid, wait time.Duration) (*AppConfig, error) {
	q := url.Values{"since": {strconv.FormatUint(uint64(since), 10)}, "wait": {wait.String()}}
	return decode[AppConfig](c.Do(ctx, read(configOf(app), q, Read{})))
}

// ChangeConfig makes a new version.
func (c *Client) ChangeConfig(ctx context.Context, app string, x ConfigChange, w Write) (*ConfigVersion, error) {
	body, err := json.Marshal(x)
	if err != nil {
		return nil, err
	}
	method, path, q := http.MethodPost, configOf(app)+"/rollback", url.Values{}
	if x.Version == 0 {
		method, path = http.MethodPut, configOf(app)
		if !x.Replace {
			q.Set("merge", "")
		}
	}
	r := w.request(method, path, q, body)
	if x.Absent {
		r.Header.Set("If-None-Match", "*")
	}
	return decode[ConfigVersion](c.Do(ctx, r))
}

// ConfigHistory lists the versions that are kept, or with a key those that have changed it.
func (c *Client) ConfigHistory(ctx context.Context, app, key string, o Read) (*ConfigHistory, error) {
	q := url.Values{}
	if key != "" {
		q.Set("key", key)
	}
	return decode[ConfigHistory](c.Do(ctx, read(configOf(app)+"/history", q, o)))
}

// ConfigDiff compares two versions, or with a key what it was in them; to 0 is the configuration as it is.
func (c *Client) ConfigDiff(ctx context.Context, app, key string, from, to int64, o Read) (*ConfigDiff, error) {
	q := url.Values{"from": {strconv.FormatInt(from, 10)}}
	if key != "" {
		q.Set("key", key)
	}
	if to > 0 {
		q.Set("to", strconv.FormatInt(to, 10))
	}
	return decode[ConfigDiff](c.Do(ctx, read(configOf(app)+"/diff", q, o)))
}
