package api

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/coord-kv/coord/op"
)

// TestOpenAPIIsValid: the description is a valid one, as it is written and as it is served.
func TestOpenAPIIsValid(t *testing.T) {
	if _, err := openAPIDoc(); err != nil {
		t.Fatal(err)
	}
	f := newFixture(t)
	r := f.must("GET", "/openapi.json", "")
	doc, err := openapi3.NewLoader().LoadFromData(r.body)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(context.Background(), openapi3.IsOpenAPI31OrLater()); err != nil {
		t.Error(err)
	}
}

// TestOpenAPIIsComplete: what is served is described, and the other way round.
func TestOpenAPIIsComplete(t *testing.T) {
	doc, err := openAPIDoc()
	if err != nil {
		t.Fatal(err)
	}
	f := newFixture(t)
	served := map[string]bool{}
	for _, rt := range f.s.routes() {
		served[rt.method+" "+strings.Replace(rt.pattern, "{path...}", "{path}", 1)] = true
	}
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			if !served[method+" "+path] {
				t.Errorf("%s %s is described and not served", method, path)
			}
			delete(served, method+" "+path)
		}
	}
	for route := range served {
		t.Errorf("%s is served and not described", route)
	}
}

// TestOpenAPICodes: the description has the codes that there are.
func TestOpenAPICodes(t *testing.T) {
	doc, err := openAPIDoc()
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, code := range op.Codes() {
		want = append(want, code.String())
	}
	var got []string
	for _, v := range doc.Components.Schemas["Problem"].Value.Properties["code"].Value.Enum {
		got = append(got, v.(string))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("described: %v\nthere are: %v", got, want)
	}
}

// TestOpenAPIUsesWhatItHas: nothing is described that nothing refers to.
func TestOpenAPIUsesWhatItHas(t *testing.T) {
	var doc struct {
		Components map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal(openAPI(), &doc); err != nil {
		t.Fatal(err)
	}
	for kind, parts := range doc.Components {
		for name := range parts {
			ref := `"#/components/` + kind + `/` + name + `"`
			if kind != "securitySchemes" && !strings.Contains(string(openAPI()), ref) {
				t.Errorf("nothing refers to %s", ref)
			}
		}
	}
}
