package fake

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
)

// RPC is a CRM behind JSON-RPC that behaves as Tryton does where it matters to a client: sessions, failures in answers
// with the status 200, unique codes, archived parties that a search does not see unless it asks for them. Its user is
// "bot", with the password RPCPassword.
type RPC struct {
	*httptest.Server

	sync.Mutex                              // of all that follows
	Parties    []map[string]json.RawMessage // the index + 1 is the id
	Sessions   int                          // how many there were; only the last is valid
	// Before is asked before a call is carried out. true: it has answered.
	Before func(method string, w http.ResponseWriter) bool
	// After is asked when a call was carried out. true: the connection breaks, and nobody hears of it.
	After func(method string) bool

	calls []string
}

// RPCPassword has what JSON and templates mind.
const RPCPassword = `pa"ss{word}`

// NewRPC starts one.
func NewRPC() *RPC {
	f := &RPC{}
	f.Server = httptest.NewServer(f)
	return f
}

// Seen returns the methods that were called since the last time, without their objects.
func (f *RPC) Seen() string {
	f.Lock()
	defer f.Unlock()
	out := strings.Join(f.calls, " ")
	f.calls = nil
	return out
}

// ServeHTTP implements http.Handler.
func (f *RPC) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.Lock()
	defer f.Unlock()
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
	if f.Before != nil && f.Before(short, w) {
		return
	}
	reply := func(kind string, v any) {
		if f.After != nil && f.After(short) {
			panic(http.ErrAbortHandler)
		}
		answer(w, http.StatusOK, map[string]any{"id": 1, kind: v})
	}
	if call.Method == "common.db.login" {
		var secret struct{ Password string }
		_ = json.Unmarshal(call.Params[1], &secret)
		if string(call.Params[0]) != `"bot"` || secret.Password != RPCPassword {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, "<!doctype html><title>401 Unauthorized</title><p>wrong credentials: "+secret.Password)
			return
		}
		f.Sessions++
		reply("result", []any{7, fmt.Sprint("s", f.Sessions)})
		return
	}
	want := "Session " + base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "bot:7:s%d", f.Sessions))
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
		_ = json.Unmarshal(call.Params[0], &domain)
		_ = json.Unmarshal(call.Params[5], &context)
		found := []any{}
		for i, p := range f.Parties {
			var code any
			_ = json.Unmarshal(p["code"], &code)
			if code == domain[0][2] && (string(p["active"]) != "false" || context.ActiveTest != nil && !*context.ActiveTest) {
				found = append(found, map[string]any{"id": i + 1, "name": p["name"]})
			}
		}
		reply("result", found)
	case "model.party.party.create":
		var records []map[string]json.RawMessage
		_ = json.Unmarshal(call.Params[0], &records)
		if _, ok := records[0]["nmae"]; ok {
			reply("error", []any{"'nmae'", ""})
			return
		}
		for _, p := range f.Parties {
			if string(p["code"]) == string(records[0]["code"]) {
				reply("error", []any{"UserError", []any{"The code on party must be unique.", "", nil}})
				return
			}
		}
		f.Parties = append(f.Parties, records[0])
		reply("result", []int{len(f.Parties)})
	case "model.party.party.write":
		var ids []int
		_ = json.Unmarshal(call.Params[0], &ids)
		var values map[string]json.RawMessage
		_ = json.Unmarshal(call.Params[1], &values)
		for name, value := range values {
			f.Parties[ids[0]-1][name] = value
		}
		reply("result", nil)
	default:
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, "<!doctype html>\n<html lang=en>\n<title>403 Forbidden</title>\n<h1>Forbidden</h1>\n"+
			"<p>You don&#39;t have the permission.</p>")
	}
}

// RPCSteps is the block rest that speaks to an RPC.
const RPCSteps = `{
	"login": {
		"user": "bot", "password": "pa\"ss{word}", "method": "POST", "path": "/crm/",
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
