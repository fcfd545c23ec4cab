package main

import (
	"embed"
	"strings"

	"github.com/grapnelhq/grapnel/sdk"
)

//go:embed testdata/published/*.json testdata/captured/*.json testdata/synthesized/*.json
var samples embed.FS

// manifest tells the host how to receive and authenticate what AccuLynx sends. Its requests carry no signature, so an
// unguessable address is what there is.
func manifest() sdk.Provider {
	return sdk.Provider{
		Name:  "acculynx",
		Title: "AccuLynx",
		Schemes: []sdk.Scheme{{
			Name:        "path_token",
			Description: "An unguessable token at the end of the registered address, or in its query as token.",
			Attribute:   "path_token",
			Token: &sdk.Token{
				Part:         sdk.Part{Kind: sdk.PartPathToken},
				Alternatives: []sdk.Part{{Kind: sdk.PartQuery, Name: "token"}},
			},
			Allow: []sdk.AllowList{{
				Attribute:   "subscriptions",
				Part:        sdk.Part{Kind: sdk.PartJSONPointer, Name: "/subscriptionId", FoldCase: true},
				Description: "Ids of the subscriptions to accept. They are no secret, but tell the accounts apart.",
			}},
		}},
		Dedupe: []sdk.DedupeKey{{{Kind: sdk.PartJSONPointer, Name: "/eventId", FoldCase: true}}},
		Events: catalogue(),
	}
}

// catalogue lists the confirmed topics. Others decode too, as untyped events.
func catalogue() []sdk.EventType {
	job := func(member string) string { return "A job's " + member }
	return []sdk.EventType{
		event[contactData]("contact.added", "A contact was added.", "captured/contact_added"),
		event[contactData]("contact.changed", "A contact was changed.", "synthesized/contact_changed"),
		event[fieldStatusData]("contact.custom_field.status_changed",
			"The status of a contact's custom field changed; whose is not said.",
			"captured/contact.custom-field.status_changed"),
		event[contactFieldData]("contact.custom_field.value_changed", "The value of a contact's custom field changed.",
			"synthesized/contact.custom-field.value_changed"),
		event[jobData]("job.created", "A job was created.", "captured/job_created-trimmed"),
		event[jobData]("job.updated", "A job was updated.", "synthesized/job_updated"),
		event[accountingData]("job.accounting.integration_status.current_changed",
			job("status in the accounting integration changed."),
			"synthesized/job.accounting.integration-status.current_changed"),
		event[appointmentData]("job.appointments.initial_created", job("initial appointment was made."),
			"synthesized/job.appointments.initial_created"),
		event[appointmentData]("job.appointments.initial_updated", job("initial appointment was changed."),
			"synthesized/job.appointments.initial_updated"),
		event[categoryData]("job.category_changed", job("category changed."), "synthesized/job.category_changed"),
		event[jobContactsData]("job.contacts.primary_changed", job("primary contact changed."),
			"synthesized/job.contacts.primary_changed"),
		event[fieldStatusData]("job.custom_field.status_changed",
			"The status of a job's custom field changed; whose is not said.",
			"captured/job.custom-field.status_changed"),
		event[jobFieldData]("job.custom_field.value_changed", "The value of a job's custom field changed.",
			"synthesized/job.custom-field.value_changed"),
		event[financialsData]("job.financials.approved_value_changed", job("approved value changed."),
			"captured/job.financials.approved-value_changed"),
		event[invoiceData]("job.invoice_updated", "An invoice of a job was updated.", "captured/job.invoice_updated"),
		event[invoiceData]("job.invoice_voided", "An invoice of a job was voided.", "synthesized/job.invoice_voided"),
		event[milestoneData]("job.milestone.current_changed", "A job reached another milestone.",
			"captured/job.milestone.current_changed"),
		event[milestoneData]("job.milestone.status.current_changed",
			"A job reached another status within its milestone, in accounts with custom workflows.",
			"synthesized/job.milestone.status.current_changed"),
		event[legacyMilestoneData]("job.milestone_changed", "A job reached another milestone, in the oldest format.",
			"published/job-milestone-changed", "synthesized/legacy-topicName-flat-event", "synthesized/legacy-table-spelling"),
		event[representativeData]("job.representatives.company_assigned", job("representative was assigned."),
			"captured/job.representatives.company_assigned"),
		event[representativeData]("job.representatives.company_changed", job("representative was changed."),
			"synthesized/job.representatives.company_changed"),
		event[tradeTypeData]("job.trade_type_changed", job("trade types changed."),
			"synthesized/job.trade-type_changed"),
		event[workTypeData]("job.work_type_changed", job("work type changed."), "synthesized/job.work-type_changed"),
	}
}

// event makes an entry of the catalogue with samples from testdata.
func event[T any](name, description string, files ...string) sdk.EventType {
	e := sdk.EventType{Type: "acculynx." + name, Description: description, Data: sdk.MustSchema[T]()}
	for _, file := range files {
		body, err := samples.ReadFile("testdata/" + file + ".json")
		if err != nil {
			panic(err) // the file is part of the program
		}
		id, when := "/eventId", "/eventDateTime"
		if strings.HasSuffix(file, "table-spelling") {
			id, when = "/EventId", "/EventDateTime"
		}
		e.Samples = append(e.Samples, sdk.Sample{
			Name:    file,
			Headers: []sdk.Header{{Name: "Content-Type", Value: "application/json"}},
			Body:    body,
			Vary: []sdk.Variation{
				{Part: sdk.Part{Kind: sdk.PartJSONPointer, Name: id}, Kind: sdk.VaryID},
				{Part: sdk.Part{Kind: sdk.PartJSONPointer, Name: when}, Kind: sdk.VaryTime},
			},
		})
	}
	return e
}
