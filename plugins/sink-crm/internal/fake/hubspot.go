package fake

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// HubSpot is a fake of HubSpot's CRM objects. Make it with NewHubSpot.
type HubSpot struct {
	server
	token   string
	types   map[string]map[string]bool // properties by type; true: values are unique
	records map[string]map[string]*HubSpotRecord
	last    int
	whole   bool
}

// HubSpotRecord is a record.
type HubSpotRecord struct {
	ID         string            `json:"id"`
	Properties map[string]string `json:"properties"`
	Archived   bool              `json:"archived,omitempty"`
	Writes     int               `json:"writes"`
}

// NewHubSpot makes an account with contacts and companies, whose property hr_external_id is unique, and a token.
func NewHubSpot(token string) *HubSpot {
	return &HubSpot{
		token: token,
		types: map[string]map[string]bool{
			"contacts": {
				"hr_external_id": true, "email": true, "firstname": false, "lastname": false, "jobtitle": false,
				"hr_status": false, "phone": false, "hr_skills": false, "hr_level": false, "hr_active": false,
				"hr_hired_on": false, "hr_department": false,
			},
			"companies": {"hr_external_id": true, "name": false},
		},
		records: map[string]map[string]*HubSpotRecord{},
		last:    100,
	}
}

// RefuseWhole makes the account refuse a batch as a whole for one bad record, as it does where it is not asked to tell
// records apart.
func (h *HubSpot) RefuseWhole(on bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.whole = on
}

// SetToken makes another token the valid one.
func (h *HubSpot) SetToken(token string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.token = token
}

// Records are those of a type by the value of their hr_external_id.
func (h *HubSpot) Records(object string) map[string]HubSpotRecord {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := map[string]HubSpotRecord{}
	for _, r := range h.records[object] {
		c := *r
		c.Properties = maps.Clone(r.Properties)
		out[r.Properties["hr_external_id"]] = c
	}
	return out
}

type hubspotError struct {
	Status        string              `json:"status"`
	Message       string              `json:"message"`
	CorrelationID string              `json:"correlationId,omitempty"`
	Category      string              `json:"category,omitempty"`
	Context       map[string][]string `json:"context,omitempty"`
	Errors        []hubspotDetail     `json:"errors,omitempty"`
	PolicyName    string              `json:"policyName,omitempty"`

	http int
}

type hubspotDetail struct {
	Message string              `json:"message"`
	Code    string              `json:"code,omitempty"`
	In      string              `json:"in,omitempty"`
	Context map[string][]string `json:"context,omitempty"`
}

type hubspotInput struct {
	ID         string            `json:"id"`
	IDProperty string            `json:"idProperty"`
	TraceID    string            `json:"objectWriteTraceId"`
	Properties map[string]string `json:"properties"`
}

type hubspotObject struct {
	ID         string            `json:"id"`
	Properties map[string]string `json:"properties"`
	CreatedAt  string            `json:"createdAt"`
	UpdatedAt  string            `json:"updatedAt"`
	Archived   bool              `json:"archived"`
	New        *bool             `json:"new,omitempty"`
	TraceID    string            `json:"objectWriteTraceId,omitempty"`
}

func refuse(w http.ResponseWriter, status int, category, format string, args ...any) {
	answer(w, status, hubspotError{
		Status: "error", Message: fmt.Sprintf(format, args...), Category: category,
		CorrelationID: "aeb5f871-7f07-4993-9211-075dc63e7cbf",
	})
}

var hubspotPath = regexp.MustCompile(`^/crm/(?:v3/objects|objects/20\d\d-\d\d)/([A-Za-z0-9_-]+)(?:/batch/(upsert|update|read|archive))?$`)

// ServeHTTP implements http.Handler.
func (h *HubSpot) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, ok := h.enter(w, r)
	defer h.mu.Unlock()
	if !ok {
		return
	}
	if r.Header.Get("Authorization") != "Bearer "+h.token {
		refuse(w, http.StatusUnauthorized, "INVALID_AUTHENTICATION",
			"Authentication credentials not found. This API supports OAuth 2.0 authentication.")
		return
	}
	m := hubspotPath.FindStringSubmatch(r.URL.Path)
	if m == nil {
		w.Header().Set("Content-Type", "text/html;charset=utf-8")
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, "<html><head><title>Error 404 Not Found</title></head><body><h2>HTTP ERROR 404</h2></body></html>")
		return
	}
	object, verb := m[1], m[2]
	if h.types[object] == nil {
		refuse(w, http.StatusBadRequest, "VALIDATION_ERROR", "Unable to infer object type from: %s", object)
		return
	}
	if verb == "" {
		if r.Method != http.MethodGet {
			refuse(w, http.StatusMethodNotAllowed, "", "HTTP 405 Method Not Allowed")
			return
		}
		h.list(w, object)
		return
	}
	if r.Method != http.MethodPost {
		refuse(w, http.StatusMethodNotAllowed, "", "HTTP 405 Method Not Allowed")
		return
	}
	if t, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); t != "application/json" {
		refuse(w, http.StatusUnsupportedMediaType, "", "HTTP 415 Unsupported Media Type")
		return
	}
	switch verb {
	case "read":
		h.read(w, object, body)
	case "archive":
		h.archive(w, object, body)
	default:
		h.write(w, object, verb == "upsert", body)
	}
}

func (h *HubSpot) list(w http.ResponseWriter, object string) {
	results := []hubspotObject{}
	for _, id := range slices.Sorted(maps.Keys(h.records[object])) {
		if rec := h.records[object][id]; !rec.Archived {
			results = append(results, show(rec))
		}
	}
	answer(w, http.StatusOK, map[string]any{"results": results[:min(len(results), 10)]})
}

func show(r *HubSpotRecord) hubspotObject {
	props := maps.Clone(r.Properties)
	props["hs_object_id"] = r.ID
	return hubspotObject{ID: r.ID, Properties: props, CreatedAt: stamp, UpdatedAt: stamp}
}

const stamp = "2026-01-15T10:00:00.000Z"

// batch answers with results and errors: 207 where there are errors.
func batch(w http.ResponseWriter, results []hubspotObject, errs []hubspotError) {
	if results == nil {
		results = []hubspotObject{}
	}
	slices.Reverse(results) // in any order, says the documentation
	body := map[string]any{
		"status": "COMPLETE", "results": results, "startedAt": stamp, "completedAt": time.Now().UTC().Format(time.RFC3339),
	}
	status := http.StatusOK
	if len(errs) > 0 {
		status = http.StatusMultiStatus
		body["numErrors"], body["errors"] = len(errs), errs
	}
	answer(w, status, body)
}

const hubspotLimit = 100

func (h *HubSpot) checkInputs(w http.ResponseWriter, n int) bool {
	if n == 0 || n > hubspotLimit {
		refuse(w, http.StatusBadRequest, "VALIDATION_ERROR", "The maximum batch size is %d, and there must be one", hubspotLimit)
		return false
	}
	return true
}

// find finds a record by its id or, with a property, by the value of that.
func (h *HubSpot) find(object, property, value string, archived bool) *HubSpotRecord {
	for _, r := range h.records[object] {
		got := r.ID
		if property != "" {
			got = r.Properties[property]
		}
		if strings.EqualFold(got, value) && (archived || !r.Archived) {
			return r
		}
	}
	return nil
}

func (h *HubSpot) checkIDProperty(w http.ResponseWriter, object, property string) bool {
	unique, there := h.types[object][property]
	switch {
	case property == "" || unique:
		return true
	case !there:
		refuse(w, http.StatusBadRequest, "VALIDATION_ERROR", `Property values were not valid: [{"isValid":false,"message":`+
			`"Property \"%[1]s\" does not exist","error":"PROPERTY_DOESNT_EXIST","name":"%[1]s"}]`, property)
	default:
		refuse(w, http.StatusBadRequest, "VALIDATION_ERROR", "Unable to perform update/upsert by non-unique %s property", property)
	}
	return false
}

func (h *HubSpot) write(w http.ResponseWriter, object string, upsert bool, body []byte) {
	var in struct {
		Inputs []hubspotInput `json:"inputs"`
	}
	if err := strict(body, &in); err != nil {
		refuse(w, http.StatusBadRequest, "VALIDATION_ERROR", "Invalid input JSON: %v", err)
		return
	}
	if !h.checkInputs(w, len(in.Inputs)) {
		return
	}
	traced := !h.whole
	seen := map[string]bool{}
	for _, i := range in.Inputs {
		if upsert && i.IDProperty == "" {
			refuse(w, http.StatusBadRequest, "VALIDATION_ERROR", "idProperty is required")
			return
		}
		if !h.checkIDProperty(w, object, i.IDProperty) {
			return
		}
		if i.Properties == nil || i.ID == "" {
			refuse(w, http.StatusBadRequest, "VALIDATION_ERROR", "Invalid input: id and properties are required")
			return
		}
		key := strings.ToLower(i.IDProperty + "=" + i.ID)
		if seen[key] {
			refuse(w, http.StatusBadRequest, "VALIDATION_ERROR", "Duplicate IDs found in batch input: [%s]", i.ID)
			return
		}
		seen[key] = true
		traced = traced && i.TraceID != ""
	}
	var errs []hubspotError
	bad := map[int]bool{}
	for n, i := range in.Inputs {
		if e := h.problem(object, upsert, i); e != nil {
			if !traced {
				answer(w, e.http, e)
				return
			}
			bad[n] = true
			if e.Context == nil {
				e.Context = map[string][]string{}
			}
			e.CorrelationID = ""
			e.Context["objectWriteTraceId"] = []string{i.TraceID}
			errs = append(errs, *e)
		}
	}
	var results []hubspotObject
	for n, i := range in.Inputs {
		if bad[n] {
			continue
		}
		r := h.find(object, i.IDProperty, i.ID, false)
		fresh := r == nil
		if fresh {
			h.last++
			r = &HubSpotRecord{ID: strconv.Itoa(h.last), Properties: map[string]string{i.IDProperty: i.ID}}
			if h.records[object] == nil {
				h.records[object] = map[string]*HubSpotRecord{}
			}
			h.records[object][r.ID] = r
		}
		r.Writes++
		for name, v := range i.Properties {
			if v == "" {
				delete(r.Properties, name)
			} else {
				r.Properties[name] = v
			}
		}
		o := show(r)
		o.TraceID = i.TraceID
		if upsert {
			o.New = &fresh
		}
		results = append(results, o)
	}
	batch(w, results, errs)
}

// problem says what is wrong with an input, or nil.
func (h *HubSpot) problem(object string, upsert bool, i hubspotInput) *hubspotError {
	existing := h.find(object, i.IDProperty, i.ID, false)
	if existing == nil && !upsert {
		return &hubspotError{
			Status: "error", Category: "OBJECT_NOT_FOUND", Message: "Could not get some objects, they may be deleted or not exist.",
			Context: map[string][]string{"ids": {i.ID}}, http: http.StatusNotFound,
		}
	}
	type invalid struct {
		IsValid bool   `json:"isValid"`
		Message string `json:"message"`
		Error   string `json:"error"`
		Name    string `json:"name"`
	}
	var list []invalid
	for _, name := range slices.Sorted(maps.Keys(i.Properties)) {
		unique, there := h.types[object][name]
		v := i.Properties[name]
		switch {
		case !there:
			list = append(list, invalid{Message: fmt.Sprintf("Property %q does not exist", name), Error: "PROPERTY_DOESNT_EXIST", Name: name})
		case name == "email" && v != "" && !strings.Contains(v, "@"):
			list = append(list, invalid{Message: fmt.Sprintf("Email address %s is invalid", v), Error: "INVALID_EMAIL", Name: name})
		case name == "hr_level" && v != "":
			if _, err := strconv.ParseFloat(v, 64); err != nil {
				list = append(list, invalid{Message: fmt.Sprintf("%s was not a valid number.", v), Error: "INVALID_FLOAT", Name: name})
			}
		case unique && v != "":
			if other := h.find(object, name, v, false); other != nil && other != existing {
				return &hubspotError{
					Status: "error", Category: "CONFLICT", Message: "Contact already exists. Existing ID: " + other.ID,
					Context: map[string][]string{"existingId": {other.ID}}, http: http.StatusConflict,
				}
			}
		}
	}
	if list == nil {
		return nil
	}
	text, err := json.Marshal(list)
	if err != nil {
		panic(err)
	}
	return &hubspotError{
		Status: "error", Category: "VALIDATION_ERROR", Message: "Property values were not valid: " + string(text),
		http: http.StatusBadRequest,
	}
}

func (h *HubSpot) read(w http.ResponseWriter, object string, body []byte) {
	var in struct {
		Inputs      []struct{ ID string } `json:"inputs"`
		IDProperty  string                `json:"idProperty"`
		Properties  []string              `json:"properties"`
		WithHistory []string              `json:"propertiesWithHistory"`
	}
	if err := strict(body, &in); err != nil || in.Properties == nil || in.WithHistory == nil {
		refuse(w, http.StatusBadRequest, "VALIDATION_ERROR", "Invalid input JSON: %v", err)
		return
	}
	if !h.checkInputs(w, len(in.Inputs)) || !h.checkIDProperty(w, object, in.IDProperty) {
		return
	}
	var results []hubspotObject
	var errs []hubspotError
	var missing []string
	for _, i := range in.Inputs {
		r := h.find(object, in.IDProperty, i.ID, false)
		if r == nil {
			missing = append(missing, i.ID)
			continue
		}
		o := show(r)
		maps.DeleteFunc(o.Properties, func(name, _ string) bool {
			return !slices.Contains(in.Properties, name) && name != "hs_object_id"
		})
		results = append(results, o)
	}
	if missing != nil {
		errs = []hubspotError{{
			Status: "error", Category: "OBJECT_NOT_FOUND", Context: map[string][]string{"ids": missing},
			Message: "Could not get some CONTACT objects, they may be deleted or not exist. Check that ids are valid.",
		}}
	}
	batch(w, results, errs)
}

func (h *HubSpot) archive(w http.ResponseWriter, object string, body []byte) {
	var in struct {
		Inputs []struct{ ID string } `json:"inputs"`
	}
	if err := strict(body, &in); err != nil {
		refuse(w, http.StatusBadRequest, "VALIDATION_ERROR", "Invalid input JSON: %v", err)
		return
	}
	if !h.checkInputs(w, len(in.Inputs)) {
		return
	}
	for _, i := range in.Inputs {
		if r := h.records[object][i.ID]; r != nil {
			r.Archived = true
			r.Writes++
		}
	}
	w.WriteHeader(http.StatusNoContent)
}
