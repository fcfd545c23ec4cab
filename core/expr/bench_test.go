package expr

import (
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/grapnelhq/grapnel/sdk"
)

// benchData is a record of ordinary size, about 900 bytes.
const benchData = `{"id":4101,"attributes":{"first_name":"Zoë","last_name":"O'Neil-Łukasz",` +
	`"full_name":"Zoë O'Neil-Łukasz","email":"zoe@example.com","hired_on":"2026-03-01","probation_ends_on":null,` +
	`"active":true,"fte":40.0,"note":"line one\nline \"two\"","avatar_url":"https:\/\/cdn.example.com\/a\/4101.png"},` +
	`"department":{"id":12,"name":"People & Culture"},"position":{"id":77,"name":"Recruiter"},` +
	`"location":{"id":3,"name":"Gdańsk","country_code":"PL"},"reporting_to":{"id":3999,"full_name":"Ann Example",` +
	`"email":"ann@example.com"},"fields":{"12":{"label":"Shirt","value":"M"},"13":{"label":"Diet","value":null}},` +
	`"tags":["new","remote","1e2"],"created_at":"2026-02-14T09:30:00.000Z","updated_at":"2026-02-14T09:30:00.000Z",` +
	`"custom":{"cost_center":"4711","laptop":"ordered","badge":true,"notes":"none so far, to be filled in by HR"}}`

const benchWhen = `event.type == "peopleforce.employee.updated" && event.data.attributes.hired_on != null && ` +
	`event.data.department.name != "Contractors"`

var benchMessage = []struct{ name, text string }{
	{"object", `"contacts"`},
	{"key", `{ hr_external_id = "peopleforce:${event.partitionkey}" }`},
	{"first", `event.data.attributes.first_name`},
	{"last", `event.data.attributes.last_name`},
	{"email", `lower(event.data.attributes.email)`},
	{"title", `event.data.position.name`},
	{"text", `"Welcome ${event.data.attributes.first_name} ${event.data.attributes.last_name}, ` +
		`${event.data.department.name}!"`},
	{"fte", `event.data.attributes.fte`},
}

func benchSchema() *sdk.Schema {
	text := sdk.Schema{Kind: sdk.KindString}
	mrkdwn := sdk.Schema{Kind: sdk.KindString, Escape: sdk.EscapeSlackMrkdwn}
	keys := sdk.Schema{Kind: sdk.KindMap, Element: &text}
	return &sdk.Schema{Kind: sdk.KindObject, Attributes: []sdk.Attribute{
		{Name: "object", Schema: text}, {Name: "key", Schema: keys}, {Name: "first", Schema: text},
		{Name: "last", Schema: text}, {Name: "email", Schema: text}, {Name: "title", Schema: text},
		{Name: "text", Schema: mrkdwn}, {Name: "fte", Schema: sdk.Schema{Kind: sdk.KindNumber}},
	}}
}

func benchSet(b *testing.B, hclOnly bool) (*Set, *Condition, *Message) {
	s := newTestSet(hclOnly)
	cond, diags := s.Condition(parse(b, benchWhen))
	if diags.HasErrors() {
		b.Fatal(diags)
	}
	attrs := map[string]*hcl.Attribute{}
	for _, a := range benchMessage {
		attrs[a.name] = &hcl.Attribute{Name: a.name, Expr: parse(b, a.text)}
	}
	msg, diags := s.Message(attrs, benchSchema(), hcl.Range{})
	if diags.HasErrors() {
		b.Fatal(diags)
	}
	return s, cond, msg
}

func BenchmarkCondition(b *testing.B) {
	for _, bm := range []struct {
		name    string
		hclOnly bool
	}{{"closures", false}, {"hcl", true}} {
		b.Run(bm.name, func(b *testing.B) {
			s, cond, _ := benchSet(b, bm.hclOnly)
			rec := s.NewRecord()
			rec.Reset(testEvent(benchData, ""))
			b.ReportAllocs()
			for b.Loop() {
				if ok, err := cond.Eval(rec); !ok || err != nil {
					b.Fatal(ok, err)
				}
			}
		})
	}
}

// BenchmarkExtract is what the first expression of an event pays.
func BenchmarkExtract(b *testing.B) {
	s, _, _ := benchSet(b, false)
	rec := s.NewRecord()
	ev, req := testEvent(benchData, "")
	b.SetBytes(int64(len(ev.Data)))
	b.ReportAllocs()
	for b.Loop() {
		rec.Reset(ev, req)
		rec.data.fill()
	}
}

func BenchmarkMessage(b *testing.B) {
	for _, bm := range []struct {
		name    string
		hclOnly bool
	}{{"closures", false}, {"hcl", true}} {
		b.Run(bm.name, func(b *testing.B) {
			s, _, msg := benchSet(b, bm.hclOnly)
			rec := s.NewRecord()
			rec.Reset(testEvent(benchData, ""))
			var dst []byte
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if dst, err = msg.Append(dst[:0], rec); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkEvent is all of it: a new event, the condition, the message.
func BenchmarkEvent(b *testing.B) {
	s, cond, msg := benchSet(b, false)
	rec := s.NewRecord()
	ev, req := testEvent(benchData, "")
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		rec.Reset(ev, req)
		if ok, err := cond.Eval(rec); !ok || err != nil {
			b.Fatal(ok, err)
		}
		var err error
		if dst, err = msg.Append(dst[:0], rec); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCompile is what one condition adds to the load of a configuration.
func BenchmarkCompile(b *testing.B) {
	e, diags := hclsyntax.ParseExpression([]byte(benchWhen), "bench.hcl", hcl.InitialPos)
	if diags.HasErrors() {
		b.Fatal(diags)
	}
	s := newTestSet(false)
	b.ReportAllocs()
	for b.Loop() {
		if _, diags := s.Condition(e); diags.HasErrors() {
			b.Fatal(diags)
		}
	}
}
