package admin

import (
	"bytes"
	"encoding/json"
	stdflag "flag"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/grapnelhq/grapnel/core/store"
)

var update = stdflag.Bool("update", false, "write openapi/schemas.json anew")

// schemaRoots are the types of bodies, both ways; what they are made of follows by itself. A type that an answer of a new
// call has belongs here.
var schemaRoots = []reflect.Type{
	reflect.TypeFor[failure](), reflect.TypeFor[ids](), reflect.TypeFor[skipping](), reflect.TypeFor[pausing](),
	reflect.TypeFor[resumed](),
	reflect.TypeFor[Status](), reflect.TypeFor[Rates](), reflect.TypeFor[Change](),
	reflect.TypeFor[Page[Request]](), reflect.TypeFor[Page[ListedEvent]](), reflect.TypeFor[EventDetail](),
	reflect.TypeFor[Page[Delivery]](), reflect.TypeFor[Page[Rejection]](), reflect.TypeFor[Page[Receipt]](),
	reflect.TypeFor[Explanation](), reflect.TypeFor[GivenRequest](), reflect.TypeFor[Report](),
	reflect.TypeFor[Config](), reflect.TypeFor[Reload](), reflect.TypeFor[Page[Reload]](),
	reflect.TypeFor[Page[Alert]](), reflect.TypeFor[AlertTest](),
	reflect.TypeFor[BackupOrder](), reflect.TypeFor[BackupReport](), reflect.TypeFor[searching](), reflect.TypeFor[SearchReport](),
	reflect.TypeFor[EraseOrder](), reflect.TypeFor[EraseReport](), reflect.TypeFor[ErasePreview](),
	reflect.TypeFor[UpgradeOrder](), reflect.TypeFor[UpgradeReport](),
}

// fieldLists are the query parameters of the calls that take any.
func fieldLists() map[string][]field {
	var (
		requests   store.RequestFilter
		events     store.EventFilter
		deliveries store.DeliveryFilter
		rejections store.RejectionFilter
		dos        DeliveryOrder
		ro         RequestOrder
		word       string
		number     int
		dryRun     bool
	)
	return map[string][]field{
		"GET /v1/requests":           requestFields(&requests),
		"GET /v1/requests/export":    requestFields(&requests),
		"GET /v1/events":             eventFields(&events),
		"GET /v1/deliveries":         deliveryFields(&deliveries),
		"GET /v1/rejections":         rejectionFields(&rejections),
		"GET /v1/receipts":           placeFields(&word, &number),
		"GET /v1/tail":               tailFields(&word),
		"POST /v1/requests/retry":    requestOrder(&ro),
		"POST /v1/requests/erase":    eraseFields(&dryRun),
		"POST /v1/requests/search":   requestFields(&requests),
		"POST /v1/deliveries/retry":  deliveryOrder(&dos, false),
		"POST /v1/deliveries/replay": deliveryOrder(&dos, true),
	}
}

// beside are the paths of the admin listener that are no calls of the control API.
var beside = []string{"GET /metrics", "GET /healthz", "GET /readyz"}

// openAPI is the part of the document that the tests look at.
type openAPI struct {
	Paths map[string]map[string]struct {
		OperationID string `json:"operationId"`
		Summary     string
		Parameters  []map[string]any
		RequestBody *struct {
			Content map[string]struct{ Schema map[string]any }
		}
		Responses map[string]json.RawMessage
	}
	Components struct {
		Schemas    map[string]json.RawMessage
		Parameters map[string]struct{ Name, In string }
		Responses  map[string]json.RawMessage
	}
}

func readOpenAPI(t *testing.T) (openAPI, []byte) {
	t.Helper()
	b, err := OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	var doc openAPI
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	return doc, b
}

// TestOpenAPIPaths checks that every call is in the document, and nothing else.
func TestOpenAPIPaths(t *testing.T) {
	doc, _ := readOpenAPI(t)
	documented, ids := []string{}, map[string]string{}
	for path, ops := range doc.Paths {
		for method, op := range ops {
			pattern := strings.ToUpper(method) + " " + path
			documented = append(documented, pattern)
			if op.OperationID == "" || op.Summary == "" || ids[op.OperationID] != "" {
				t.Errorf("%s: operationId %q, summary %q", pattern, op.OperationID, op.Summary)
			}
			ids[op.OperationID] = pattern
		}
	}
	served := slices.Concat(routes(nil, owner).all, beside)
	slices.Sort(documented)
	slices.Sort(served)
	if diff := cmp.Diff(served, documented); diff != "" {
		t.Errorf("openapi/api.json (-served +documented):\n%s", diff)
	}
	remote := routes(nil, remote).all
	for _, p := range routes(nil, owner).all {
		if (p == "POST /v1/plugins/upgrade" || p == "POST /v1/backup") == slices.Contains(remote, p) {
			t.Errorf("%s: at the admin listener %t", p, slices.Contains(remote, p))
		}
	}
}

// TestOpenAPIParameters checks that the query parameters of every call are in the document, and no others.
func TestOpenAPIParameters(t *testing.T) {
	doc, _ := readOpenAPI(t)
	lists := fieldLists()
	for path, ops := range doc.Paths {
		for method, op := range ops {
			pattern := strings.ToUpper(method) + " " + path
			documented, want := []string{}, []string{}
			for _, p := range op.Parameters {
				ref, _ := p["$ref"].(string)
				named, ok := doc.Components.Parameters[strings.TrimPrefix(ref, "#/components/parameters/")]
				if !ok {
					t.Errorf("%s: parameter %v", pattern, p)
				}
				if named.In == "query" {
					documented = append(documented, named.Name)
				}
			}
			for _, f := range lists[pattern] {
				want = append(want, f.name)
			}
			slices.Sort(documented)
			slices.Sort(want)
			if diff := cmp.Diff(want, documented); diff != "" {
				t.Errorf("%s (-taken +documented):\n%s", pattern, diff)
			}
		}
	}
	// A call that looks at its parameters, and that the list above does not know.
	for _, pattern := range routes(nil, owner).all {
		method, path, _ := strings.Cut(pattern, " ")
		r, err := http.NewRequest(method, path+"?zzzzzz=1", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		if looks := strings.Contains(answerOfNothing(r), "unknown parameter"); looks != (lists[pattern] != nil) {
			t.Errorf("%s: takes parameters: %t; fieldLists of this test: %t", pattern, looks, lists[pattern] != nil)
		}
	}
}

// answerOfNothing is what a call says before it asks its Control, which is not there.
func answerOfNothing(r *http.Request) string {
	w := &recorded{head: http.Header{}}
	func() {
		defer func() { _ = recover() }()
		routes(nil, owner).ServeHTTP(w, r)
	}()
	return w.String()
}

type recorded struct {
	bytes.Buffer
	head   http.Header
	status int
}

func (w *recorded) Header() http.Header    { return w.head }
func (w *recorded) WriteHeader(status int) { w.status = status }

// TestOpenAPISchemas checks that the schemas are those of the types: names, kinds, what is always there, and the comments.
func TestOpenAPISchemas(t *testing.T) {
	g := &generator{t: t, schemas: map[string]any{}, types: map[string]reflect.Type{}, docs: map[string]string{}}
	for _, dir := range []string{".", "../store", "../expr", "../../sdk", ".."} {
		g.read(dir)
	}
	for _, r := range schemaRoots {
		g.schema(r)
	}
	b, err := json.MarshalIndent(g.schemas, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	// As people write them.
	for _, r := range [][2]string{{`\u003c`, "<"}, {`\u003e`, ">"}, {`\u0026`, "&"}} {
		b = bytes.ReplaceAll(b, []byte(r[0]), []byte(r[1]))
	}
	b = append(b, '\n')
	if *update {
		if err := os.WriteFile("openapi/schemas.json", b, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	now, err := os.ReadFile("openapi/schemas.json")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(b), string(now)); diff != "" {
		t.Errorf("openapi/schemas.json is not what the types say; go test ./core/admin -run TestOpenAPISchemas -update "+
			"(-types +document):\n%s", diff)
	}
	doc, whole := readOpenAPI(t)
	used := map[string]bool{}
	for _, part := range strings.Split(string(whole), `"#/components/schemas/`)[1:] {
		name, _, _ := strings.Cut(part, `"`)
		if used[name] = true; doc.Components.Schemas[name] == nil {
			t.Errorf("there is no schema %s", name)
		}
	}
	for name := range doc.Components.Schemas {
		if !used[name] {
			t.Errorf("no call has the schema %s", name)
		}
	}
}

// generator makes JSON schemas of types.
type generator struct {
	t       *testing.T
	schemas map[string]any
	types   map[string]reflect.Type
	docs    map[string]string // comments, by package, type and field: "admin.Request", "admin.Request.State"
}

// read takes the comments of a package.
func (g *generator) read(dir string) {
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		g.t.Fatal(err)
	}
	for _, name := range names {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			g.t.Fatal(err)
		}
		for _, d := range f.Decls {
			if gen, ok := d.(*ast.GenDecl); ok {
				for _, s := range gen.Specs {
					if ts, ok := s.(*ast.TypeSpec); ok {
						g.take(f.Name.Name+"."+ts.Name.Name, ts, cmpOr(ts.Doc.Text(), gen.Doc.Text()))
					}
				}
			}
		}
	}
}

// take takes the comments of a type and of its fields.
func (g *generator) take(key string, ts *ast.TypeSpec, doc string) {
	g.docs[key] = strings.TrimSpace(doc)
	st, ok := ts.Type.(*ast.StructType)
	if !ok {
		return
	}
	for _, f := range st.Fields.List {
		for _, n := range f.Names {
			g.docs[key+"."+n.Name] = strings.TrimSpace(cmpOr(f.Comment.Text(), f.Doc.Text()))
		}
	}
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// name is a type's name in the document.
func (g *generator) name(t reflect.Type) string {
	name := t.Name()
	if head, of, ok := strings.Cut(name, "["); ok { // Page[…/admin.Request]
		name = of[strings.LastIndex(of, ".")+1:len(of)-1] + head
	}
	if first, size := utf8.DecodeRuneInString(name); unicode.IsLower(first) {
		name = strings.ToUpper(name[:size]) + name[size:]
	}
	if name == "Ids" {
		name = "IDs"
	}
	pkg := t.PkgPath()[strings.LastIndex(t.PkgPath(), "/")+1:]
	if pkg == "expr" {
		name = "Expression" + name
	}
	if other, ok := g.types[name]; ok && other != t {
		name = strings.ToUpper(pkg[:1]) + pkg[1:] + name
	}
	g.types[name] = t
	return name
}

// schema is the schema of a type, or a reference to it.
func (g *generator) schema(t reflect.Type) map[string]any {
	switch t {
	case reflect.TypeFor[time.Time]():
		return map[string]any{"type": "string", "format": "date-time"}
	case reflect.TypeFor[json.RawMessage]():
		return map[string]any{}
	case reflect.TypeFor[[]byte]():
		return map[string]any{"type": "string", "contentEncoding": "base64"}
	}
	switch t.Kind() {
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int, reflect.Int64, reflect.Uint64:
		return map[string]any{"type": "integer", "format": "int64"}
	case reflect.Float64:
		return map[string]any{"type": "number"}
	case reflect.Pointer:
		return g.schema(t.Elem())
	case reflect.Slice:
		return map[string]any{"type": "array", "items": g.schema(t.Elem())}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": g.schema(t.Elem())}
	case reflect.Struct:
		name := g.name(t)
		if g.schemas[name] == nil {
			g.schemas[name] = true // a Step has Steps
			g.schemas[name] = g.object(t)
		}
		return map[string]any{"$ref": "#/components/schemas/" + name}
	}
	g.t.Fatalf("no schema for %s", t)
	return nil
}

func (g *generator) object(t reflect.Type) map[string]any {
	properties, required := map[string]any{}, []string{}
	g.fields(t, properties, &required)
	s := map[string]any{"type": "object", "properties": properties}
	if len(required) > 0 {
		slices.Sort(required)
		s["required"] = required
	}
	base, _, _ := strings.Cut(t.Name(), "[")
	if doc := g.docs[g.key(t, base)]; doc != "" {
		s["description"] = oneLine(doc)
	}
	return s
}

func (g *generator) key(t reflect.Type, name string) string {
	return t.PkgPath()[strings.LastIndex(t.PkgPath(), "/")+1:] + "." + name
}

func (g *generator) fields(t reflect.Type, properties map[string]any, required *[]string) {
	base, _, _ := strings.Cut(t.Name(), "[")
	for i := range t.NumField() {
		f := t.Field(i)
		tag, tagged := f.Tag.Lookup("json")
		name, options, _ := strings.Cut(tag, ",")
		switch {
		case f.Anonymous && name == "":
			g.fields(f.Type, properties, required)
			continue
		case name == "-" || !f.IsExported():
			continue
		case !tagged || name == "":
			g.t.Errorf("%s.%s has no name in JSON", t, f.Name)
			continue
		}
		s := g.schema(f.Type)
		if doc := g.docs[g.key(t, base)+"."+f.Name]; doc != "" {
			s["description"] = oneLine(doc)
		}
		properties[name] = s
		if !strings.Contains(options, "omitempty") && !strings.Contains(options, "omitzero") {
			*required = append(*required, name)
		}
	}
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
