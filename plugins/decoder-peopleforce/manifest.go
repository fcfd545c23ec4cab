package main

import (
	"embed"
	"encoding/json"

	"github.com/grapnelhq/grapnel/sdk"
)

//go:embed testdata/published/*.json testdata/documented/*.json testdata/synthesized/*.json
var samples embed.FS

// manifest tells the host how to receive and authenticate what PeopleForce sends.
func manifest() sdk.Provider {
	return sdk.Provider{
		Name:  "peopleforce",
		Title: "PeopleForce",
		Schemes: []sdk.Scheme{{
			Name:        "peopleforce",
			Description: "HMAC-SHA256 over the body in the header x-peopleforce-signature, with the webhook's secret.",
			HMAC: &sdk.HMAC{
				Headers:   []string{"x-peopleforce-signature"},
				Algorithm: sdk.SHA256,
				Encoding:  sdk.Hex,
				Prefix:    "sha256=",
				KeyFormat: sdk.KeyText,
			},
		}},
		// There is no id of the delivery and no time of sending: only the body tells requests apart.
		Dedupe: []sdk.DedupeKey{{{Kind: sdk.PartBody}}},
		Events: catalogue(),
	}
}

// catalogue lists the confirmed topics. Others decode too, as untyped events.
func catalogue() []sdk.EventType {
	employee, position, salary := sdk.MustSchema[employeeData](), sdk.MustSchema[positionData](), sdk.MustSchema[salaryData]()
	compensation, status, leave := sdk.MustSchema[compensationData](), sdk.MustSchema[statusData](), sdk.MustSchema[leaveData]()
	events := []sdk.EventType{
		event("employee.created", "An employee was added.", employee,
			"published/employee-create", "documented/employee_create-with-location"),
		event("employee.updated", "An employee's record changed. It comes whole, without what changed.", employee,
			"synthesized/employee_update", "synthesized/unicode-employee_update"),
		event("employee.started", "An employee's hire date was reached.", employee, "synthesized/employee_start"),
		event("employee.terminated", "An employee's termination took effect.", employee,
			"synthesized/employee_terminate"),
		event("employee.termination_reverted", "An employee's termination was taken back.", employee,
			"synthesized/employee_termination_revert"),
		event("employee_position.created", "An employee got a position.", position,
			"documented/employee_position_create"),
		event("employee_position.updated", "An employee's position changed.", position,
			"synthesized/employee_position_update"),
		event("employee_salary.created", "An employee got a salary.", salary, "documented/employee_salary_create"),
		event("employee_salary.updated", "An employee's salary changed.", salary, "documented/employee_salary_update"),
		event("employee_additional_compensation.created", "An employee got an additional compensation.", compensation,
			"synthesized/employee_additional_compensation_create"),
		event("employee_additional_compensation.updated", "An employee's additional compensation changed.", compensation,
			"synthesized/employee_additional_compensation_update"),
		event("employee_employment_status.created", "An employee got an employment status.", status,
			"synthesized/employee_employment_status_create"),
		event("employee_employment_status.updated", "An employee's employment status changed.", status,
			"synthesized/employee_employment_status_update"),
		event("leave_request.created", "A leave was asked for. It may be approved already: see its state.", leave,
			"documented/leave_request_create"),
		event("leave_request.approved", "The last approver approved a leave.", leave,
			"documented/leave_request_approve-hours"),
		event("leave_request.rejected", "The first of the approvers to do so rejected a leave.", leave,
			"synthesized/leave_request_reject"),
		event("leave_request.withdrawn", "A leave was withdrawn.", leave, "synthesized/leave_request_withdraw"),
		event("applicant.created", "A candidate was added.", sdk.MustSchema[applicantData](),
			"documented/applicant_create-partial"),
	}
	return events
}

func event(typ, description string, data sdk.Schema, files ...string) sdk.EventType {
	et := sdk.EventType{Type: "peopleforce." + typ, Description: description, Data: data}
	for _, file := range files {
		et.Samples = append(et.Samples, sample(file))
	}
	return et
}

// sample reads one of the files in testdata and says what makes a copy of it another event.
func sample(file string) sdk.Sample {
	body, err := samples.ReadFile("testdata/" + file + ".json")
	if err != nil {
		panic(err) // the file is part of the program
	}
	s := sdk.Sample{
		Name:    file,
		Headers: []sdk.Header{{Name: "Content-Type", Value: "application/json"}},
		Body:    body,
		Vary: []sdk.Variation{
			{Part: sdk.Part{Kind: sdk.PartJSONPointer, Name: "/data/id"}, Kind: sdk.VaryID},
		},
	}
	var request struct {
		Data struct{ Meta json.RawMessage }
	}
	if json.Unmarshal(body, &request) == nil && request.Data.Meta != nil {
		s.Vary = append(s.Vary, sdk.Variation{
			Part: sdk.Part{Kind: sdk.PartJSONPointer, Name: "/data/meta/updated_at"}, Kind: sdk.VaryTime,
		})
	}
	return s
}
