package api

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"

	"go.yaml.in/yaml/v3"
)

//go:embed openapi.yaml
var openAPIYAML []byte

// openAPI returns the description of the API as JSON.
var openAPI = sync.OnceValue(func() []byte {
	var doc any
	if err := yaml.Unmarshal(openAPIYAML, &doc); err != nil {
		panic(fmt.Sprintf("couldn't read the embedded description of the API: %v", err))
	}
	b, err := json.Marshal(doc)
	if err != nil {
		panic(fmt.Sprintf("couldn't encode the embedded description of the API: %v", err))
	}
	return b
})

func (c *call) showOpenAPI() error {
	if err := c.q.done(); err != nil {
		return err
	}
	c.respondBytes(http.StatusOK, openAPI())
	return nil
}
