package rest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// fakeRPC is a CRM behind JSON-RPC that behaves as Tryton does where it matters here: sessions, failures in answers with
// status 200, unique codes, archived parties that a search does not see unless it asks for them.
type fakeRPC struct {
	*httptest.Server

	mu       sync.Mutex
	parties  []map[string]json.RawMessage // index + 1 is the id
	sessions int                          // how many there were; only the last is valid
	calls    []string
	// before is asked before a call is carried out. true: it has answered.
	before func(method string, w http.ResponseWriter) bool
}

func newFakeRPC(t *testing.T) *fakeRPC {
	f := &fakeRPC{}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

// seen returns the methods that were called since the last time.
func (f *fakeRPC) seen() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := strings.Join(f.calls, " ")
	f.calls = nil
	return out
}

func (f *fakeRPC) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	var call struct {
		Method string
		Params []json.RawMessage
	}
	if err := json.Unmarshal(body, &call); err != nil || r.URL.Path != "/crm/" {
		http.Error(w, "<html><h1>Bad &lt;thing&gt;</h1></html>", http.StatusInternalServerError)
		return
	}
	short := call.Method[strings.LastIndexByte(call.Method, '.')+1:]
	f.calls = append(f.calls, short)
	if f.before != nil && f.before(short, w) {
		return
	}
	reply := func(kind string, v any) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]any{"id": 1, kind: v})
	}
	if call.Method == "common.db.login" {
		var secret struct{ Password string }
		json.Unmarshal(call.Params[1], &secret)
		if string(call.Params[0]) != `"bot"` || secret.Password != "pa\"ss{word}" {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(http.StatusUnauthorized)
			io.WriteString(w, "<!doctype html><title>401 Unauthorized</title><p>wrong credentials: "+secret.Password)
			return
		}
		f.sessions++
		reply("result", []any{7, fmt.Sprint("s", f.sessions)})
		return
	}
	want := "Session " + base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "bot:7:s%d", f.sessions))
	if r.Header.Get("Authorization") != want {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	switch call.Method {
	case "model.party.party.search_read":
		var domain [][]any
		var context struct {
			ActiveTest *bool `json:"active_test"`
		}
		json.Unmarshal(call.Params[0], &domain)
		json.Unmarshal(call.Params[5], &context)
		found := []any{}
		for i, p := range f.parties {
			var code any
			json.Unmarshal(p["code"], &code)
			if code == domain[0][2] && (string(p["active"]) != "false" || context.ActiveTest != nil && !*context.ActiveTest) {
				found = append(found, map[string]any{"id": i + 1, "name": p["name"]})
			}
		}
		reply("result", found)
	case "model.party.party.create":
		var records []map[string]json.RawMessage
		json.Unmarshal(call.Params[0], &records)
		if _, ok := records[0]["nmae"]; ok {
			reply("error", []any{"'nmae'", ""})
			return
		}
		for _, p := range f.parties {
			if string(p["code"]) == string(records[0]["code"]) {
				reply("error", []any{"UserError", []any{"The code on party must be unique.", "", nil}})
				return
			}
		}
		f.parties = append(f.parties, records[0])
		reply("result", []int{len(f.parties)})
	case "model.party.party.write":
		var ids []int
		json.Unmarshal(call.Params[0], &ids)
		var values map[string]json.RawMessage
		json.Unmarshal(call.Params[1], &values)
		for name, value := range values {
			f.parties[ids[0]-1][name] = value
		}
		reply("result", nil)
	default:
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.WriteHeader(http.StatusForbidden)
		io.WriteString(w, "<!doctype html>\n<html lang=en>\n<title>403 Forbidden</title>\n<h1>Forbidden</h1>\n"+
			"<p>You don&#39;t have the permission.</p>")
	}
}

// rpcConfig speaks to a fakeRPC.
const rpcConfig = `{
	"login": {
		"user": "bot", "password": "pa\"ss{word}", "path": "/crm/",
		"body": {"id": 1, "method": "common.db.login", "params": ["{user}", {"password": "{password}"}]},
		"values": {"uid": "/result/0", "token": "/result/1"},
		"session": {"prefix": "Session ", "value": "{user}:{uid}:{token}", "base64": true}
	},
	"lookup": {
		"method": "POST", "path": "/crm/",
		"body": {"id": 1, "method": "model.{object}.search_read",
			"params": [[["{key.name}", "=", "{key}"]], 0, 3, null, ["id", "name"], {"active_test": false}]},
		"found": "/result", "id": "/id"
	},
	"create": {
		"method": "POST", "path": "/crm/", "id": "/result/0",
		"body": {"id": 1, "method": "model.{object}.create", "params": [["{record}"], {}]}
	},
	"update": {
		"method": "POST", "path": "/crm/",
		"body": {"id": 1, "method": "model.{object}.write", "params": [["{id}"], "{fields}", {}]}
	},
	"archive": {
		"method": "POST", "path": "/crm/",
		"body": {"id": 1, "method": "model.{object}.write", "params": [["{id}"], {"active": false}, {}]}
	},
	"errors": {
		"at": "/error", "expect": "/result", "message": "/error/1/0",
		"rules": [
			{"contains": "must be unique", "class": "duplicate"},
			{"at": "/error/0", "equals": "ConcurrencyException", "class": "retry", "pause": 2000000000},
			{"contains": "session", "class": "login"}
		]
	}
}`
