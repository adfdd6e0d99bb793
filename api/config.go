package api

import (
	"cmp"
	"context"
	"math"
	"net/http"
	"strings"

	"github.com/coord-kv/coord/internal/settings"
	"github.com/coord-kv/coord/op"
)

const configURL = "/v1/config"

func (s *Server) configRoutes() []route {
	const app = configURL + "/{id}"
	return []route{
		{method: "GET", pattern: configURL, name: "config_read", serve: (*call).listConfigs},
		{method: "GET", pattern: app, name: "config_read", serve: (*call).readConfig, uncounted: true},
		{method: "PUT", pattern: app, name: "config_write", body: jsonBody, serve: (*call).putConfig},
		{method: "GET", pattern: app + "/history", name: "config_read", serve: (*call).configHistory},
		{method: "GET", pattern: app + "/diff", name: "config_read", serve: (*call).configDiff},
		{method: "POST", pattern: app + "/rollback", name: "config_write", body: jsonBody, serve: (*call).rollBackConfig},
	}
}

// configVersion is one version of a configuration.
type configVersion struct {
	App          string  `json:"app"`
	Version      int64   `json:"version"`
	Author       string  `json:"author"`
	Comment      string  `json:"comment"`
	Set          int     `json:"set"`
	Deleted      int     `json:"deleted"`
	RolledBackTo int64   `json:"rolled_back_to,omitempty"`
	Time         op.Time `json:"time,omitzero"`
	Zxid         op.Zxid `json:"zxid,omitzero"`
}

func newConfigVersion(app string, v settings.Version) configVersion {
	return configVersion{app, v.Number, v.Author, v.Comment, v.Set, v.Deleted, v.RolledBack, v.At, v.Written}
}

type configForm struct {
	configVersion
	Values map[string]string `json:"values"`
	Next   op.Zxid           `json:"next"`
}

type configsForm struct {
	Apps []string `json:"apps"`
}

func (c *call) listConfigs() error {
	x, err := c.reading()
	if err != nil {
		return err
	}
	apps, err := settings.New(x).Apps(c.r.Context(), op.ReadOptions{})
	if err != nil {
		return err
	}
	c.respondJSON(http.StatusOK, configsForm{apps})
	return nil
}

// readConfig answers with a configuration as it is, or at ?version. One that isn't there is empty, at version 0.
func (c *call) readConfig() error {
	if err := settings.CheckApp(c.arg); err != nil {
		return err
	}
	form, err := c.config()
	if err != nil {
		return err
	}
	if form.Node.Czxid != 0 {
		c.setETag(&form.Node)
		if c.unchanged(&form.Node) {
			c.replied = true
			c.w.WriteHeader(http.StatusNotModified)
			return nil
		}
	}
	return c.respondConfig(form)
}

func (c *call) config() (settings.Config, error) {
	if c.q.has("version") {
		c.q.none("waits for a change, and a version doesn't change", "since", "wait")
		version := c.q.number("version", 1, math.MaxInt64, 1)
		x, err := c.reading()
		if err != nil {
			return settings.Config{}, err
		}
		return settings.New(x).At(c.r.Context(), c.arg, version, op.ReadOptions{})
	}
	x, err := c.pollReading(settings.Filter(c.arg))
	if err != nil {
		return settings.Config{}, err
	}
	all, err := settings.New(x).Get(c.r.Context(), c.arg, op.ReadOptions{})
	all.Zxid = x.state.Zxid()
	return all, err
}

// respondConfig writes a configuration in the form that Accept asks for.
func (c *call) respondConfig(x settings.Config) error {
	c.w.Header()["Vary"] = []string{"Accept"}
	accept := c.r.Header.Get("Accept")
	switch {
	case strings.HasPrefix(accept, "text/x-env"):
		list, err := settings.Variables(x.Values)
		if err != nil {
			return err
		}
		c.respond(http.StatusOK, "text/x-env; charset=utf-8", settings.Assignments(list))
	case strings.HasPrefix(accept, "application/yaml"):
		c.respond(http.StatusOK, "application/yaml", settings.YAML(x.Values))
	default:
		c.respondJSON(http.StatusOK, configForm{newConfigVersion(c.arg, x.Version), x.Values, x.Zxid})
	}
	return nil
}

// putConfig makes the configuration what the body says, or with ?merge changes what the body names.
func (c *call) putConfig() error {
	body, err := parseObject(c.body)
	if err != nil {
		return err
	}
	merge := c.q.flag("merge", false)
	if !body.has("values") {
		body.fault("values", "is required")
	}
	x := c.newChange(body)
	x.Values, x.Replace = body.textsOrNull("values", merge), !merge
	return c.commit(body, func(ctx context.Context, s *settings.Settings) (settings.Committed, error) {
		return s.Commit(ctx, c.arg, x)
	})
}

// rollBackConfig makes the configuration what it was at a version.
func (c *call) rollBackConfig() error {
	body, err := parseObject(c.body)
	if err != nil {
		return err
	}
	if !body.has("version") {
		body.fault("version", "is required")
	}
	version, x := body.number("version", 1, math.MaxInt64, 1), c.newChange(body)
	if body.has("keys") {
		if x.Keys = body.strings("keys"); len(x.Keys) == 0 {
			body.fault("keys", "has no key; leave it out, and all go back")
		}
	}
	return c.commit(body, func(ctx context.Context, s *settings.Settings) (settings.Committed, error) {
		return s.Rollback(ctx, c.arg, version, x)
	})
}

// newChange reads who makes a change, why, and on which condition.
func (c *call) newChange(body *object) settings.Change {
	x := settings.Change{Author: cmp.Or(body.text("author"), c.userName()), Comment: body.text("comment")}
	c.q.none("is no condition here; send the configuration's ETag as If-Match", "version")
	cond, conditional := c.condition()
	switch {
	case c.createOnly():
		if conditional {
			c.q.faults.add("If-None-Match", "asks for a configuration that doesn't exist, and If-Match for one that does")
		}
		x.If = &op.Cond{Absent: true}
	case conditional && cond == op.Always:
		x.If = &op.Cond{Version: op.AnyVersion, Mzxid: math.MaxInt64} // whatever it is, but there
	case conditional:
		x.If = &cond
	}
	return x
}

// userName returns the name of the user whom the caller has proven to be; "" for nobody.
func (c *call) userName() string {
	for _, id := range c.auth {
		if user, _, ok := strings.Cut(id.ID, ":"); ok && id.Scheme == "digest" {
			return user
		}
	}
	return ""
}

// commit does what f does, once for one key.
func (c *call) commit(
	body *object, f func(context.Context, *settings.Settings) (settings.Committed, error),
) error {
	if err := body.finish(); err != nil {
		return err
	}
	x, err := c.writingOnce()
	if err != nil {
		return err
	}
	ctx, cancel := c.withTimeout()
	defer cancel()
	done, err := f(ctx, settings.New(x))
	if err != nil {
		return err
	}
	c.setZxid(done.Zxid)
	c.setETag(&done.Node)
	c.respondJSON(http.StatusOK, newConfigVersion(c.arg, done.Version))
	return nil
}

type configHistoryForm struct {
	App      string          `json:"app"`
	Versions []configVersion `json:"versions"`
}

type keyHistoryForm struct {
	App      string       `json:"app"`
	Key      string       `json:"key"`
	Versions []keyVersion `json:"versions"`
}

type keyVersion struct {
	configVersion
	Value *string `json:"value"`
}

// configHistory lists the versions, or with ?key those that have changed a key.
func (c *call) configHistory() error {
	ofKey, key := c.q.has("key"), c.q.text("key")
	x, err := c.reading()
	if err != nil {
		return err
	}
	if ofKey {
		list, err := settings.New(x).KeyHistory(c.r.Context(), c.arg, key, op.ReadOptions{})
		if err != nil {
			return err
		}
		form := keyHistoryForm{c.arg, key, []keyVersion{}}
		for _, v := range list {
			form.Versions = append(form.Versions, keyVersion{newConfigVersion(c.arg, v.Version), v.Value})
		}
		c.respondJSON(http.StatusOK, form)
		return nil
	}
	list, err := settings.New(x).History(c.r.Context(), c.arg, op.ReadOptions{})
	if err != nil {
		return err
	}
	form := configHistoryForm{App: c.arg, Versions: []configVersion{}}
	for _, v := range list {
		form.Versions = append(form.Versions, newConfigVersion(c.arg, v))
	}
	c.respondJSON(http.StatusOK, form)
	return nil
}

type configDiffForm struct {
	App     string       `json:"app"`
	From    int64        `json:"from"`
	To      int64        `json:"to"`
	Changes []changeForm `json:"changes"`
}

type changeForm struct {
	Key  string  `json:"key"`
	From *string `json:"from"`
	To   *string `json:"to"`
}

// configDiff compares a version with another one, or with the configuration as it is; with ?key only that key.
func (c *call) configDiff() error {
	if !c.q.has("from") {
		c.q.faults.add("from", "is required: the version to compare with")
	}
	from, to := c.q.number("from", 1, math.MaxInt64, 1), c.q.number("to", 1, math.MaxInt64, 0)
	ofKey, key := c.q.has("key"), c.q.text("key")
	if ofKey {
		if err := settings.CheckKey(key); err != nil {
			return err
		}
	}
	x, err := c.reading()
	if err != nil {
		return err
	}
	s, ctx := settings.New(x), c.r.Context()
	a, err := s.At(ctx, c.arg, from, op.ReadOptions{})
	if err != nil {
		return err
	}
	var b settings.Config
	if to == 0 {
		b, err = s.Get(ctx, c.arg, op.ReadOptions{})
	} else {
		b, err = s.At(ctx, c.arg, to, op.ReadOptions{})
	}
	if err != nil {
		return err
	}
	form := configDiffForm{App: c.arg, From: a.Number, To: b.Number, Changes: []changeForm{}}
	for _, d := range settings.Diff(a, b) {
		if !ofKey || d.Key == key {
			form.Changes = append(form.Changes, changeForm(d))
		}
	}
	c.respondJSON(http.StatusOK, form)
	return nil
}
