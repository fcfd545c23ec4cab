package admin

import (
	"embed"
	"encoding/json"
	"fmt"
	"net/http"
)

// openAPIFiles is the description of the control API: api.json is written by hand, schemas.json by the tests out of the
// types that answers are made of. The tests hold both against the code.
//
//go:embed openapi
var openAPIFiles embed.FS

// OpenAPI returns the OpenAPI document of the control API.
func OpenAPI() ([]byte, error) {
	api, err := openAPIFiles.ReadFile("openapi/api.json")
	if err != nil {
		return nil, err
	}
	schemas, err := openAPIFiles.ReadFile("openapi/schemas.json")
	if err != nil {
		return nil, err
	}
	var doc, components map[string]json.RawMessage
	if err := json.Unmarshal(api, &doc); err != nil {
		return nil, fmt.Errorf("api.json: %w", err)
	}
	if err := json.Unmarshal(doc["components"], &components); err != nil {
		return nil, fmt.Errorf("api.json: components: %w", err)
	}
	components["schemas"] = schemas
	if doc["components"], err = json.Marshal(components); err != nil {
		return nil, fmt.Errorf("schemas.json: %w", err)
	}
	return json.Marshal(doc)
}

func handleOpenAPI(w http.ResponseWriter, _ *http.Request) {
	b, err := OpenAPI()
	if err != nil {
		newLines(w).fail(err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(b) // a caller that went away is no error of ours
}
