package main

import "encoding/json"

// The records as the domain APIs document them, for the catalogue's schemas only: nothing is ever decoded into these
// types, and data reaches the routes as it was sent. The provider leaves out every property without a value, so that
// all are optional.

type workingAmount struct {
	AmountOfWork       *json.Number `json:"amountOfWork" doc:"Hours per period."`
	ParttimePercentage *json.Number `json:"parttimePercentage" doc:"100.0 is full time."`
	UnitOfWork         *string      `json:"unitOfWork" doc:"Hours."`
	PeriodOfWork       *string      `json:"periodOfWork" doc:"Week."`
}

// employmentFields are the properties of an employment. The only published example of a changed person
// carries them too.
type employmentFields struct {
	ID                        *string            `json:"id" doc:"Opaque; may hold a space."`
	PersonCode                *string            `json:"personCode" doc:"The employee's number as users see it."`
	PersonID                  *string            `json:"personId" doc:"The person's technical id."`
	ContractCode              *string            `json:"contractCode"`
	ValidFrom                 *string            `json:"validFrom" doc:"Date; 1900-01-01 means always."`
	ValidUntil                *string            `json:"validUntil" doc:"Date; 9999-12-31 means no end."`
	EmploymentCode            *string            `json:"employmentCode"`
	ContractID                *string            `json:"contractId"`
	OriginalHireDate          *string            `json:"originalHireDate" doc:"Date."`
	HireDate                  *string            `json:"hireDate" doc:"Date."`
	DischargeDate             *string            `json:"dischargeDate" doc:"Date."`
	Company                   *string            `json:"company" doc:"Client and institution code with a space between."`
	EmploymentType            *string            `json:"employmentType" doc:"Code."`
	EmploymentTypeName        *string            `json:"employmentTypeName"`
	ContractType              *string            `json:"contractType" doc:"Code."`
	ContractTypeName          *string            `json:"contractTypeName"`
	JobProfile                *string            `json:"jobProfile" doc:"The job profile's id."`
	JobProfileName            *string            `json:"jobProfileName"`
	OrganizationUnit          *string            `json:"organizationUnit" doc:"The organization unit's id."`
	OrganizationUnitCode      *string            `json:"organizationUnitCode"`
	OrganizationUnitName      *string            `json:"organizationUnitName"`
	PayrollInstitutionCode    *string            `json:"payrollInstitutionCode"`
	PayrollClientCode         *string            `json:"payrollClientCode"`
	PayrollRegistrationNumber *string            `json:"payrollRegistrationNumber"`
	Classification            *string            `json:"classification" doc:"Code."`
	ClassificationName        *string            `json:"classificationName"`
	CostCenter                *string            `json:"costCenter"`
	EmailAddresses            *[]json.RawMessage `json:"emailAddresses"`
	PhoneNumbers              *[]json.RawMessage `json:"phoneNumbers"`
	WorkingAmount             *workingAmount     `json:"workingAmount"`
	Extensions                json.RawMessage    `json:"extensions,omitempty" doc:"The customer's own fields."`
}

type employmentData struct{ employmentFields }

type personData struct {
	employmentFields
	Initials              *string            `json:"initials"`
	FirstNames            *string            `json:"firstNames" doc:"The official given names."`
	KnownAs               *string            `json:"knownAs" doc:"The first name that is used."`
	LastName              *string            `json:"lastName" doc:"The last name that is used."`
	LastNamePrefix        *string            `json:"lastNamePrefix"`
	LastNameAtBirth       *string            `json:"lastNameAtBirth"`
	LastNameAtBirthPrefix *string            `json:"lastNameAtBirthPrefix"`
	NameAssembleOrder     *string            `json:"nameAssembleOrder" doc:"Code of how the last name is put together."`
	PartnerName           *string            `json:"partnerName"`
	PartnerNamePrefix     *string            `json:"partnerNamePrefix"`
	TitlePrefix           *string            `json:"titlePrefix"`
	TitleSuffix           *string            `json:"titleSuffix"`
	Gender                json.RawMessage    `json:"gender,omitempty" doc:"Code."`
	DateOfBirth           *string            `json:"dateOfBirth" doc:"Date."`
	Addresses             *[]json.RawMessage `json:"addresses"`
}

type assignmentData struct {
	ID                   *string         `json:"id" doc:"Opaque; may hold spaces."`
	PersonCode           *string         `json:"personCode" doc:"The employee's number as users see it."`
	PersonID             *string         `json:"personId" doc:"The person's technical id."`
	EmploymentCode       *string         `json:"employmentCode"`
	ValidFrom            *string         `json:"validFrom" doc:"Date; 1900-01-01 means always."`
	ValidUntil           *string         `json:"validUntil" doc:"Date; 9999-12-31 means no end."`
	StartDate            *string         `json:"startDate" doc:"Date."`
	EndDate              *string         `json:"endDate" doc:"Date."`
	JobProfile           *string         `json:"jobProfile" doc:"The job profile's id."`
	JobProfileName       *string         `json:"jobProfileName"`
	OrganizationUnit     *string         `json:"organizationUnit" doc:"The organization unit's id."`
	OrganizationUnitCode *string         `json:"organizationUnitCode"`
	OrganizationUnitName *string         `json:"organizationUnitName"`
	CostCenter           *string         `json:"costCenter"`
	WorkingAmount        *workingAmount  `json:"workingAmount"`
	Extensions           json.RawMessage `json:"extensions,omitempty" doc:"The customer's own fields."`
}
