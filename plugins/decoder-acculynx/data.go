package main

import "encoding/json"

// The records as captured from the provider or documented by it, for the catalogue's schemas only: nothing is ever
// decoded into these types, and data reaches the routes as it was sent. Members whose inner shape is not known can
// be anything.

type jobRef struct {
	ID   string  `json:"id" doc:"GUID."`
	Link *string `json:"_link" doc:"Address of the job in the provider's API."`
}

type contactRef struct {
	ID   string  `json:"id" doc:"GUID."`
	Link *string `json:"_link" doc:"Address of the contact in the provider's API."`
}

type contactData struct {
	Contact struct {
		contactRef
		Date *string `json:"date" doc:"RFC 3339."`
	} `json:"contact"`
}

// jobData is a snapshot. The provider documents many more members.
type jobData struct {
	Job struct {
		jobRef
		JobName          *string         `json:"jobName"`
		CurrentMilestone json.RawMessage `json:"currentMilestone,omitempty" doc:"Documented as a name; tests hold a number."`
		Priority         json.RawMessage `json:"priority,omitempty"`
		JobCategory      json.RawMessage `json:"jobCategory,omitempty"`
		WorkType         json.RawMessage `json:"workType,omitempty"`
		TradeTypes       json.RawMessage `json:"tradeTypes,omitempty"`
		LocationAddress  *struct {
			Street1 *string         `json:"street1"`
			Street2 *string         `json:"street2"`
			City    *string         `json:"city"`
			State   json.RawMessage `json:"state,omitempty"`
			ZipCode *string         `json:"zipCode"`
			Country json.RawMessage `json:"country,omitempty"`
		} `json:"locationAddress"`
	} `json:"job"`
}

type milestoneData struct {
	Job struct {
		jobRef
		Milestone *struct {
			ID        *string         `json:"id" doc:"GUID."`
			Name      *string         `json:"name"`
			IsCurrent *bool           `json:"isCurrent"`
			User      json.RawMessage `json:"user,omitempty"`
			Status    json.RawMessage `json:"status,omitempty"`
		} `json:"milestone"`
	} `json:"job"`
}

// legacyMilestoneData is the flat shape of the oldest topic.
type legacyMilestoneData struct {
	JobID          string  `json:"jobId" doc:"GUID."`
	CompanyID      *string `json:"companyId" doc:"GUID of the company that owns the job."`
	MilestoneID    *int64  `json:"milestoneId"`
	MilestoneName  *string `json:"milestoneName"`
	CompanyUserID  *string `json:"companyUserId" doc:"GUID of who made the change."`
	AdminID        *string `json:"adminId" doc:"GUID."`
	Message        *string `json:"message" doc:"What the user wrote about the change."`
	ActionLocation *string `json:"actionLocation"`
	MilestoneDate  *string `json:"milestoneDate" doc:"RFC 3339."`
}

type financialsData struct {
	Job struct {
		jobRef
		Financials *struct {
			ApprovedJobValue *json.Number `json:"approvedJobValue"`
			Date             *string      `json:"date" doc:"Date and time, without a zone."`
		} `json:"financials"`
	} `json:"job"`
}

type invoiceData struct {
	Job struct {
		jobRef
		Invoice *struct {
			ID              *string      `json:"id" doc:"GUID."`
			CostTotal       *json.Number `json:"costTotal"`
			PriceTotal      *json.Number `json:"priceTotal"`
			AmountCollected *json.Number `json:"amountCollected"`
		} `json:"invoice"`
	} `json:"job"`
}

type representativeData struct {
	Job struct {
		jobRef
		CompanyRepresentative *struct {
			ID   *string `json:"id" doc:"GUID, another one for each assignment."`
			User *struct {
				ID *string `json:"id" doc:"GUID."`
			} `json:"user"`
		} `json:"companyRepresentative"`
	} `json:"job"`
}

type categoryData struct {
	Job struct {
		jobRef
		JobCategory json.RawMessage `json:"jobCategory,omitempty"`
	} `json:"job"`
}

type workTypeData struct {
	Job struct {
		jobRef
		WorkType json.RawMessage `json:"workType,omitempty"`
	} `json:"job"`
}

type tradeTypeData struct {
	Job struct {
		jobRef
		TradeTypes json.RawMessage `json:"tradeTypes,omitempty"`
	} `json:"job"`
}

type jobContactsData struct {
	Job struct {
		jobRef
		Contacts json.RawMessage `json:"contacts,omitempty"`
	} `json:"job"`
}

type appointmentData struct {
	Job struct {
		jobRef
		InitialAppointment    json.RawMessage `json:"initialAppointment,omitempty"`
		CompanyRepresentative json.RawMessage `json:"companyRepresentative,omitempty"`
	} `json:"job"`
}

type accountingData struct {
	Job struct {
		jobRef
		Accounting json.RawMessage `json:"accounting,omitempty"`
	} `json:"job"`
}

// fieldStatusData has no job and no contact: the provider does not say whose field it is.
type fieldStatusData struct {
	CustomField struct {
		ID     string  `json:"id" doc:"GUID."`
		Label  *string `json:"label"`
		Status *string `json:"status"`
	} `json:"customField"`
}

type fieldValue struct {
	ID              *string         `json:"id" doc:"GUID."`
	Label           *string         `json:"label"`
	Values          json.RawMessage `json:"values,omitempty"`
	FormattedValues json.RawMessage `json:"formattedValues,omitempty"`
}

type jobFieldData struct {
	Job struct {
		jobRef
		CustomField *fieldValue `json:"customField"`
	} `json:"job"`
}

type contactFieldData struct {
	Contact struct {
		contactRef
		CustomField *fieldValue `json:"customField"`
	} `json:"contact"`
}
