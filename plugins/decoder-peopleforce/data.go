package main

import "encoding/json"

// The records as the provider documents them, for the catalogue's schemas only: nothing is ever decoded into these
// types, and data reaches the routes as it was sent. Only the id is certain to be there, and id and name of what a record
// refers to, as long as it does.

type reference struct {
	ID   int64  `json:"id"`
	Name string `json:"name"`
}

type employeeStub struct {
	ID             *int64  `json:"id"`
	EmployeeNumber *string `json:"employee_number"`
	FirstName      *string `json:"first_name"`
	LastName       *string `json:"last_name"`
	Email          *string `json:"email"`
}

type meta struct {
	CreatedAt *string `json:"created_at" doc:"RFC 3339 with the account's offset."`
	UpdatedAt *string `json:"updated_at" doc:"RFC 3339 with the account's offset."`
}

type customField struct {
	Name  *string         `json:"name" doc:"As the account named it: neither unique nor stable."`
	Value json.RawMessage `json:"value,omitempty" doc:"Text, null or another JSON value; ids come as text."`
	Group *string         `json:"group"`
}

type employeeData struct {
	ID         int64 `json:"id"`
	Attributes *struct {
		EmployeeNumber           *string `json:"employee_number"`
		HiredOn                  *string `json:"hired_on" doc:"Date."`
		ProbationEndsOn          *string `json:"probation_ends_on" doc:"Date."`
		FirstName                *string `json:"first_name"`
		LastName                 *string `json:"last_name"`
		Email                    *string `json:"email"`
		PersonalEmail            *string `json:"personal_email"`
		Gender                   *string `json:"gender"`
		MobileNumber             *string `json:"mobile_number" doc:"May be an empty text."`
		WorkPhoneNumber          *string `json:"work_phone_number" doc:"May be an empty text."`
		DateOfBirth              *string `json:"date_of_birth" doc:"Date."`
		TerminationEffectiveDate *string `json:"termination_effective_date" doc:"Date."`
		TerminationComment       *string `json:"termination_comment"`
		AvatarURL                *string `json:"avatar_url"`
	} `json:"attributes"`
	ReportingTo *struct {
		ID       *int64  `json:"id"`
		FullName *string `json:"full_name"`
		Email    *string `json:"email"`
	} `json:"reporting_to"`
	EmploymentType *reference              `json:"employment_type"`
	Position       *reference              `json:"position"`
	Department     *reference              `json:"department"`
	Division       *reference              `json:"division"`
	Location       *reference              `json:"location"`
	CustomFields   *map[string]customField `json:"custom_fields" doc:"By the field's UUID."`
	Meta           *meta                   `json:"meta"`
}

type positionData struct {
	ID         int64 `json:"id"`
	Attributes *struct {
		EffectiveOn *string `json:"effective_on" doc:"Date."`
	} `json:"attributes"`
	Employee    *employeeStub `json:"employee"`
	ReportingTo *struct {
		ID        *int64  `json:"id"`
		FirstName *string `json:"first_name"`
		LastName  *string `json:"last_name"`
	} `json:"reporting_to" doc:"Not the shape that an employee's reporting_to has."`
	Position   *reference `json:"position"`
	Department *reference `json:"department"`
	Division   *reference `json:"division"`
	Location   *reference `json:"location"`
	Meta       *meta      `json:"meta"`
}

type salaryData struct {
	ID         int64 `json:"id"`
	Attributes *struct {
		EffectiveOn  *string `json:"effective_on" doc:"Date."`
		Amount       *string `json:"amount" doc:"A decimal number as text."`
		Per          *string `json:"per" doc:"month."`
		CurrencyCode *string `json:"currency_code"`
		Comment      *string `json:"comment"`
	} `json:"attributes"`
	Employee *employeeStub `json:"employee"`
	Meta     *meta         `json:"meta"`
}

// compensationData is what the topics about an employee have in common; the rest of this one is not published.
type compensationData struct {
	ID         int64           `json:"id"`
	Attributes json.RawMessage `json:"attributes,omitempty"`
	Employee   *employeeStub   `json:"employee"`
	Meta       *meta           `json:"meta"`
}

// statusData is what the topics about an employee have in common; the rest of this one is not published.
type statusData struct {
	ID             int64           `json:"id"`
	Attributes     json.RawMessage `json:"attributes,omitempty"`
	Employee       *employeeStub   `json:"employee"`
	EmploymentType json.RawMessage `json:"employment_type,omitempty"`
	Meta           *meta           `json:"meta"`
}

type leaveData struct {
	ID         int64 `json:"id"`
	Attributes *struct {
		EmployeeID  *int64  `json:"employee_id"`
		StartsOn    *string `json:"starts_on" doc:"Date."`
		EndsOn      *string `json:"ends_on" doc:"Date."`
		Amount      *string `json:"amount" doc:"A decimal number as text."`
		Description *string `json:"description"`
		Unit        *string `json:"unit" enum:"days|hours"`
		State       *string `json:"state" doc:"Decide by this, not by the topic: a new request may be approved already."`
	} `json:"attributes"`
	Entries *[]struct {
		OccursOn *string `json:"occurs_on" doc:"Date."`
		Amount   *string `json:"amount" doc:"A decimal number as text."`
	} `json:"entries"`
	LeaveType *reference `json:"leave_type"`
	Meta      *meta      `json:"meta"`
}

type applicantData struct {
	ID         int64 `json:"id"`
	Attributes *struct {
		FullName     *string         `json:"full_name"`
		Position     json.RawMessage `json:"position,omitempty"`
		Email        *string         `json:"email"`
		PhoneNumbers *[]string       `json:"phone_numbers"`
		URLs         *[]string       `json:"urls"`
	} `json:"attributes"`
	CustomFields *map[string]customField `json:"custom_fields" doc:"By the field's UUID; without group."`
	Meta         *meta                   `json:"meta"`
}
