package fake

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Salesforce is a fake of a Salesforce organization: logins, sObject Rows by external id, sObject Collections, and the
// query that finds ids. Make it with NewSalesforce.
type Salesforce struct {
	server
	org      SalesforceOrg
	sessions map[string]bool
	objects  map[string]map[string]sfField
	records  map[string]map[string]*SalesforceRecord // by object and id
	last     int
}

// SalesforceOrg is who may log in.
type SalesforceOrg struct {
	ClientID, ClientSecret string
	PublicKey              *rsa.PublicKey // for the JWT bearer grant
	User, Audience         string         // the same
	InstanceURL            string         // what logins answer; empty: nothing
}

// SalesforceRecord is a record.
type SalesforceRecord struct {
	ID      string                     `json:"id"`
	Fields  map[string]json.RawMessage `json:"fields"`
	Deleted bool                       `json:"deleted,omitempty"`
	Writes  int                        `json:"writes"`
}

type sfField struct {
	kind     string // text, date, number, bool
	external bool
	required bool
	length   int
	readOnly bool
}

// NewSalesforce makes an organization with Contact and Account, whose field HR_Id__c is an external id. HR_Number__c is
// one that holds numbers, HR_Twin__c one whose values are not unique.
func NewSalesforce(org SalesforceOrg) *Salesforce {
	return &Salesforce{
		org: org, sessions: map[string]bool{},
		objects: map[string]map[string]sfField{
			"Contact": {
				"HR_Id__c": {kind: "text", external: true}, "HR_Number__c": {kind: "number", external: true},
				"HR_Twin__c": {kind: "text", external: true}, "FirstName": {kind: "text", length: 40},
				"LastName": {kind: "text", length: 80, required: true}, "Email": {kind: "email", length: 80},
				"Title": {kind: "text", length: 128}, "Birthdate": {kind: "date"}, "Department": {kind: "text", length: 80},
				"HR_Status__c": {kind: "text", length: 20}, "HR_Active__c": {kind: "bool"},
				"IsDeleted": {kind: "bool", readOnly: true},
			},
			"Account": {"HR_Id__c": {kind: "text", external: true}, "Name": {kind: "text", length: 255, required: true}},
		},
		records: map[string]map[string]*SalesforceRecord{},
	}
}

// EndSessions makes every access token invalid; a new login gives another one.
func (s *Salesforce) EndSessions() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.sessions)
}

// SetOrg changes who may log in, and ends all sessions.
func (s *Salesforce) SetOrg(org SalesforceOrg) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.org = org
	clear(s.sessions)
}

// AddSession makes an access token valid.
func (s *Salesforce) AddSession(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions[token] = true
}

// Add adds a record past all rules and returns its id.
func (s *Salesforce) Add(object string, fields map[string]json.RawMessage) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.add(object, fields).ID
}

// Records are those of an object by the text of their HR_Id__c.
func (s *Salesforce) Records(object string) map[string]SalesforceRecord {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]SalesforceRecord{}
	for _, r := range s.records[object] {
		c := *r
		c.Fields = maps.Clone(r.Fields)
		var key string
		_ = json.Unmarshal(r.Fields["HR_Id__c"], &key) // none: the empty one
		out[key] = c
	}
	return out
}

type sfError struct {
	ErrorCode string   `json:"errorCode"`
	Message   string   `json:"message"`
	Fields    []string `json:"fields,omitempty"`
}

type sfProblem struct {
	StatusCode string   `json:"statusCode"`
	Message    string   `json:"message"`
	Fields     []string `json:"fields"`
}

type sfResult struct {
	ID      string      `json:"id,omitempty"`
	Success bool        `json:"success"`
	Created *bool       `json:"created,omitempty"`
	Errors  []sfProblem `json:"errors"`
}

func sfRefuse(w http.ResponseWriter, status int, code, format string, args ...any) {
	answer(w, status, []sfError{{ErrorCode: code, Message: fmt.Sprintf(format, args...)}})
}

var sfPath = regexp.MustCompile(`^/services/data/v\d\d\.0(/.*)?$`)

// ServeHTTP implements http.Handler.
func (s *Salesforce) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, ok := s.enter(w, r)
	defer s.mu.Unlock()
	if !ok {
		return
	}
	if r.URL.Path == "/services/oauth2/token" {
		s.token(w, r, body)
		return
	}
	scheme, token, _ := cut(r.Header.Get("Authorization"))
	if (scheme != "Bearer" && scheme != "OAuth") || !s.sessions[token] {
		sfRefuse(w, http.StatusUnauthorized, "INVALID_SESSION_ID", "Session expired or invalid")
		return
	}
	m := sfPath.FindStringSubmatch(r.URL.Path)
	if m == nil {
		sfRefuse(w, http.StatusNotFound, "NOT_FOUND", "The requested resource does not exist")
		return
	}
	if len(body) > 0 && r.Method != http.MethodGet {
		if t, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); t != "application/json" {
			sfRefuse(w, http.StatusUnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE", "Content type %q is not supported", t)
			return
		}
	}
	parts := strings.Split(strings.Trim(m[1], "/"), "/")
	switch {
	case parts[0] == "" && r.Method == http.MethodGet:
		answer(w, http.StatusOK, map[string]string{"sobjects": m[0] + "sobjects", "query": m[0] + "query"})
	case parts[0] == "sobjects" && len(parts) == 4:
		s.row(w, r, parts[1], parts[2], parts[3], body)
	case parts[0] == "composite" && len(parts) == 4 && parts[1] == "sobjects" && r.Method == http.MethodPatch:
		s.collection(w, parts[2], parts[3], body)
	case parts[0] == "composite" && len(parts) == 2 && parts[1] == "sobjects" && r.Method == http.MethodPatch:
		s.collection(w, "", "", body)
	case parts[0] == "composite" && len(parts) == 2 && parts[1] == "sobjects" && r.Method == http.MethodDelete:
		s.deleteMany(w, r.URL.Query())
	case parts[0] == "query" && len(parts) == 1 && r.Method == http.MethodGet:
		s.query(w, r.URL.Query().Get("q"))
	default:
		sfRefuse(w, http.StatusNotFound, "NOT_FOUND", "The requested resource does not exist")
	}
}

func (s *Salesforce) token(w http.ResponseWriter, r *http.Request, body []byte) {
	form, err := url.ParseQuery(string(body))
	refuse := func(code, text string) {
		answer(w, http.StatusBadRequest, map[string]string{"error": code, "error_description": text})
	}
	if err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" {
		refuse("invalid_request", "malformed request")
		return
	}
	switch form.Get("grant_type") {
	case "client_credentials":
		id, secret := form.Get("client_id"), form.Get("client_secret")
		if id == "" {
			id, secret, _ = r.BasicAuth()
		}
		if id != s.org.ClientID {
			refuse("invalid_client_id", "client identifier invalid")
			return
		}
		if secret != s.org.ClientSecret || secret == "" {
			refuse("invalid_client", "invalid client credentials")
			return
		}
	case "urn:ietf:params:oauth:grant-type:jwt-bearer":
		if err := s.checkAssertion(form.Get("assertion")); err != nil {
			refuse("invalid_grant", err.Error())
			return
		}
	default:
		refuse("unsupported_grant_type", "grant type not supported")
		return
	}
	s.last++
	token := fmt.Sprintf("00D000000000001!session.%d", s.last)
	s.sessions[token] = true
	out := map[string]string{
		"access_token": token, "token_type": "Bearer", "id": "https://login.salesforce.com/id/00D/005", "scope": "api",
	}
	if s.org.InstanceURL != "" {
		out["instance_url"] = s.org.InstanceURL
	}
	answer(w, http.StatusOK, out)
}

func (s *Salesforce) checkAssertion(assertion string) error {
	parts := strings.Split(assertion, ".")
	if len(parts) != 3 || s.org.PublicKey == nil {
		return fmt.Errorf("invalid assertion")
	}
	var raw [3][]byte
	for i, p := range parts {
		var err error
		if raw[i], err = base64.RawURLEncoding.Strict().DecodeString(p); err != nil {
			return fmt.Errorf("invalid assertion")
		}
	}
	var header struct{ Alg, Typ string }
	var claims struct {
		Iss, Sub, Aud string
		Exp           json.RawMessage
	}
	if json.Unmarshal(raw[0], &header) != nil || header.Alg != "RS256" || json.Unmarshal(raw[1], &claims) != nil {
		return fmt.Errorf("invalid assertion")
	}
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if rsa.VerifyPKCS1v15(s.org.PublicKey, crypto.SHA256, digest[:], raw[2]) != nil {
		return fmt.Errorf("invalid assertion")
	}
	var exp int64
	if json.Unmarshal([]byte(strings.Trim(string(claims.Exp), `"`)), &exp) != nil ||
		time.Until(time.Unix(exp, 0)) < 0 || time.Until(time.Unix(exp, 0)) > 5*time.Minute {
		return fmt.Errorf("expired authorization code")
	}
	switch {
	case claims.Iss != s.org.ClientID:
		return fmt.Errorf("client identifier invalid")
	case claims.Aud != s.org.Audience:
		return fmt.Errorf("audience is invalid")
	case claims.Sub != s.org.User:
		return fmt.Errorf("user hasn't approved this consumer")
	}
	return nil
}

func (s *Salesforce) add(object string, fields map[string]json.RawMessage) *SalesforceRecord {
	s.last++
	r := &SalesforceRecord{ID: fmt.Sprintf("003%012dAAA", s.last), Fields: maps.Clone(fields)}
	if s.records[object] == nil {
		s.records[object] = map[string]*SalesforceRecord{}
	}
	s.records[object][r.ID] = r
	return r
}

// find finds the records with a value in a field.
func (s *Salesforce) find(object, field, value string) []*SalesforceRecord {
	var out []*SalesforceRecord
	for _, id := range slices.Sorted(maps.Keys(s.records[object])) {
		r := s.records[object][id]
		if v := r.Fields[field]; !r.Deleted && v != nil && strings.EqualFold(textOf(v), value) {
			out = append(out, r)
		}
	}
	return out
}

// textOf is a text, or a number as it is written.
func textOf(v json.RawMessage) string {
	var text string
	if json.Unmarshal(v, &text) == nil {
		return text
	}
	return string(v)
}

// shape checks what makes Salesforce refuse a request as a whole.
func (s *Salesforce) shape(object string, fields map[string]json.RawMessage) *sfError {
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		f, ok := s.objects[object][name]
		if !ok {
			return &sfError{ErrorCode: "INVALID_FIELD", Message: fmt.Sprintf("No such column '%s' on sobject of type %s", name, object)}
		}
		var v any
		if json.Unmarshal(fields[name], &v) != nil || v == nil {
			continue
		}
		ok = true
		switch f.kind {
		case "date":
			text, is := v.(string)
			_, err := time.Parse(time.DateOnly, text)
			ok = is && err == nil
		case "number":
			_, is := v.(float64)
			text, isText := v.(string)
			ok = is || isText && regexp.MustCompile(`^\d+$`).MatchString(text)
		case "bool":
			_, ok = v.(bool)
		default:
			switch v.(type) {
			case map[string]any, []any:
				ok = false
			}
		}
		if !ok {
			return &sfError{ErrorCode: "JSON_PARSER_ERROR", Message: fmt.Sprintf(
				"Cannot deserialize instance of %s from VALUE_STRING value at [line:1, column:2]", f.kind)}
		}
	}
	return nil
}

// rules checks what is wrong with one record.
func (s *Salesforce) rules(object string, fields map[string]json.RawMessage, existing *SalesforceRecord, key string) *sfProblem {
	for _, name := range slices.Sorted(maps.Keys(s.objects[object])) {
		f := s.objects[object][name]
		v, given := fields[name]
		null := string(v) == "null"
		switch {
		case f.required && (existing == nil && !given || given && null):
			return &sfProblem{"REQUIRED_FIELD_MISSING", "Required fields are missing: [" + name + "]", []string{name}}
		case given && f.readOnly:
			return &sfProblem{"INVALID_FIELD_FOR_INSERT_UPDATE", "Unable to create/update fields: " + name +
				". Please check the security settings of this field and verify that it is read/write for your profile or permission set.",
				[]string{name}}
		case !given || null:
		case f.length > 0 && len(textOf(v)) > f.length:
			return &sfProblem{"STRING_TOO_LONG", fmt.Sprintf("%s: data value too large: (max length=%d)", name, f.length), []string{name}}
		case f.kind == "email" && !strings.Contains(textOf(v), "@"):
			return &sfProblem{"INVALID_EMAIL_ADDRESS", name + ": invalid email address: " + textOf(v), []string{name}}
		case f.external && name != "HR_Twin__c" && name != key:
			for _, other := range s.find(object, name, textOf(v)) {
				if other != existing {
					return &sfProblem{"DUPLICATE_VALUE", "duplicate value found: " + name + " duplicates value on record with id: " + other.ID, []string{}}
				}
			}
		}
	}
	return nil
}

func (r *SalesforceRecord) write(fields map[string]json.RawMessage) {
	r.Writes++
	for name, v := range fields {
		if string(v) == "null" {
			delete(r.Fields, name)
		} else {
			r.Fields[name] = v
		}
	}
}

// row is sObject Rows by External ID.
func (s *Salesforce) row(w http.ResponseWriter, r *http.Request, object, field, value string, body []byte) {
	if s.objects[object] == nil {
		sfRefuse(w, http.StatusNotFound, "NOT_FOUND", "The requested resource does not exist")
		return
	}
	if !s.objects[object][field].external {
		sfRefuse(w, http.StatusNotFound, "NOT_FOUND", "Provided external ID field does not exist or is not accessible: %s", field)
		return
	}
	if strings.Contains(value, ".") {
		sfRefuse(w, http.StatusNotFound, "NOT_FOUND", "The requested resource does not exist")
		return
	}
	found := s.find(object, field, value)
	if len(found) > 1 {
		list := make([]string, len(found))
		for i, f := range found {
			list[i] = "/services/data/v62.0/sobjects/" + object + "/" + f.ID
		}
		answer(w, http.StatusMultipleChoices, list)
		return
	}
	only := r.URL.Query().Get("updateOnly") == "true"
	if len(found) == 0 && (r.Method != http.MethodPatch || only) {
		sfRefuse(w, http.StatusNotFound, "NOT_FOUND", "Provided external ID does not match any record")
		return
	}
	switch r.Method {
	case http.MethodDelete:
		found[0].Deleted = true
		found[0].Writes++
		w.WriteHeader(http.StatusNoContent)
	case http.MethodPatch:
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(body, &fields); err != nil || fields == nil {
			sfRefuse(w, http.StatusBadRequest, "JSON_PARSER_ERROR", "The HTTP entity body is required, but this request has no entity body.")
			return
		}
		for _, name := range []string{"Id", "id", field} {
			if _, ok := fields[name]; ok {
				sfRefuse(w, http.StatusBadRequest, "INVALID_FIELD", "The %s field should not be specified in the sobject data.", name)
				return
			}
		}
		if string(fields["attributes"]) == `{"type":"`+object+`"}` {
			delete(fields, "attributes") // of no use here, and accepted
		}
		if e := s.shape(object, fields); e != nil {
			answer(w, http.StatusBadRequest, []sfError{*e})
			return
		}
		var existing *SalesforceRecord
		if len(found) == 1 {
			existing = found[0]
		}
		if p := s.rules(object, fields, existing, field); p != nil {
			answer(w, http.StatusBadRequest, []sfError{{p.StatusCode, p.Message, p.Fields}})
			return
		}
		created := existing == nil
		if created {
			token, err := json.Marshal(value)
			if err != nil {
				panic(err)
			}
			existing = s.add(object, map[string]json.RawMessage{field: token})
		}
		existing.write(fields)
		status := http.StatusOK
		if created {
			status = http.StatusCreated
		}
		answer(w, status, sfResult{ID: existing.ID, Success: true, Created: &created, Errors: []sfProblem{}})
	default:
		sfRefuse(w, http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED", "HTTP Method '%s' not allowed", r.Method)
	}
}

const sfLimit = 200

// collection upserts by an external id or, without a field, updates by id.
func (s *Salesforce) collection(w http.ResponseWriter, object, field string, body []byte) {
	var in struct {
		AllOrNone bool                         `json:"allOrNone"`
		Records   []map[string]json.RawMessage `json:"records"`
	}
	if err := strict(body, &in); err != nil || len(in.Records) == 0 || in.AllOrNone {
		sfRefuse(w, http.StatusBadRequest, "JSON_PARSER_ERROR", "Unexpected input: %v", err)
		return
	}
	if len(in.Records) > sfLimit {
		sfRefuse(w, http.StatusBadRequest, "EXCEEDED_ID_LIMIT", "record limit reached. cannot submit more than %d records into this call", sfLimit)
		return
	}
	if field != "" && s.objects[object] == nil {
		sfRefuse(w, http.StatusBadRequest, "INVALID_TYPE", "sObject type '%s' is not supported.", object)
		return
	}
	if field != "" && !s.objects[object][field].external {
		sfRefuse(w, http.StatusBadRequest, "INVALID_FIELD", "No such column '%s' on sobject of type %s", field, object)
		return
	}
	types := make([]string, len(in.Records))
	for i, rec := range in.Records {
		var attributes struct {
			Type string `json:"type"`
		}
		if strict(rec["attributes"], &attributes) != nil || s.objects[attributes.Type] == nil || field != "" && attributes.Type != object {
			sfRefuse(w, http.StatusBadRequest, "INVALID_TYPE", "The type of record %d is not that of the request", i)
			return
		}
		types[i] = attributes.Type
		delete(rec, "attributes")
		fields := maps.Clone(rec)
		delete(fields, "id")
		delete(fields, "Id")
		if e := s.shape(attributes.Type, fields); e != nil {
			answer(w, http.StatusBadRequest, []sfError{*e})
			return
		}
	}
	results := make([]sfResult, len(in.Records))
	seen := map[string]bool{}
	for i, rec := range in.Records {
		fail := func(code, text string, fields ...string) {
			results[i] = sfResult{Errors: []sfProblem{{code, text, append([]string{}, fields...)}}}
		}
		var existing *SalesforceRecord
		var value string
		if field == "" {
			value = textOf(append(rec["id"], rec["Id"]...))
			delete(rec, "id")
			delete(rec, "Id")
			existing = s.records[types[i]][value]
			if existing == nil || existing.Deleted {
				fail("ENTITY_IS_DELETED", "entity is deleted")
				continue
			}
		} else {
			if rec[field] == nil {
				fail("MISSING_ARGUMENT", field+" not specified", field)
				continue
			}
			value = textOf(rec[field])
			found := s.find(types[i], field, value)
			if len(found) > 1 {
				fail("DUPLICATE_EXTERNAL_ID", field+": more than one record found for external id field: ["+value+"]", field)
				continue
			}
			if len(found) == 1 {
				existing = found[0]
			}
		}
		if low := strings.ToLower(value); seen[low] {
			fail("DUPLICATE_VALUE", "Duplicate external id specified: "+value, field)
			continue
		} else {
			seen[low] = true
		}
		if p := s.rules(types[i], rec, existing, field); p != nil {
			fail(p.StatusCode, p.Message, p.Fields...)
			continue
		}
		created := existing == nil
		if created {
			existing = s.add(types[i], map[string]json.RawMessage{})
		}
		existing.write(rec)
		results[i] = sfResult{ID: existing.ID, Success: true, Errors: []sfProblem{}}
		if field != "" {
			results[i].Created = &created
		}
	}
	answer(w, http.StatusOK, results)
}

func (s *Salesforce) deleteMany(w http.ResponseWriter, q url.Values) {
	ids := strings.Split(q.Get("ids"), ",")
	if len(ids) > sfLimit || ids[0] == "" {
		sfRefuse(w, http.StatusBadRequest, "INVALID_QUERY_LOCATOR", "ids: 1 to %d", sfLimit)
		return
	}
	results := make([]sfResult, len(ids))
	for i, id := range ids {
		results[i] = sfResult{ID: id, Errors: []sfProblem{{"ENTITY_IS_DELETED", "entity is deleted", []string{}}}}
		for _, records := range s.records {
			if r := records[id]; r != nil && !r.Deleted {
				r.Deleted = true
				r.Writes++
				results[i] = sfResult{ID: id, Success: true, Errors: []sfProblem{}}
			}
		}
	}
	answer(w, http.StatusOK, results)
}

var (
	sfQuery = regexp.MustCompile(`^SELECT Id, (\w+) FROM (\w+) WHERE (\w+) IN \((.*)\)$`)
	sfValue = regexp.MustCompile(`^(?:'((?:[^'\\]|\\['\\])*)'|([0-9.]+))(?:,(.+))?$`)
)

func (s *Salesforce) query(w http.ResponseWriter, text string) {
	m := sfQuery.FindStringSubmatch(text)
	if m == nil || m[1] != m[3] {
		sfRefuse(w, http.StatusBadRequest, "MALFORMED_QUERY", "unexpected token: %s", text)
		return
	}
	field, object := m[1], m[2]
	f, ok := s.objects[object][field]
	if s.objects[object] == nil {
		sfRefuse(w, http.StatusBadRequest, "INVALID_TYPE", "sObject type '%s' is not supported.", object)
		return
	}
	if !ok {
		sfRefuse(w, http.StatusBadRequest, "INVALID_FIELD", "\nSELECT Id, %s\n^\nERROR at Row:1:Column:12\nNo such column '%[1]s' on entity '%s'.", field, object)
		return
	}
	records := []map[string]any{}
	for rest := m[4]; rest != ""; {
		v := sfValue.FindStringSubmatch(rest)
		if v == nil {
			sfRefuse(w, http.StatusBadRequest, "MALFORMED_QUERY", "unexpected token: %s", rest)
			return
		}
		value := v[2]
		if value == "" {
			value = strings.NewReplacer(`\\`, `\`, `\'`, `'`).Replace(v[1])
		}
		if (f.kind == "number") != (v[2] != "") {
			sfRefuse(w, http.StatusBadRequest, "INVALID_FIELD", "value of filter criterion for field '%s' must be of type %s", field, f.kind)
			return
		}
		rest = v[3]
		for _, r := range s.find(object, field, value) {
			records = append(records, map[string]any{
				"attributes": map[string]string{"type": object, "url": "/services/data/v62.0/sobjects/" + object + "/" + r.ID},
				"Id":         r.ID, field: r.Fields[field],
			})
		}
	}
	answer(w, http.StatusOK, map[string]any{"totalSize": len(records), "done": true, "records": records})
}
