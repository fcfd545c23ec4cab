package auth

// Error is why a request was refused. Cause is one of the Cause words, fit for metrics and rejections; Detail is for
// the operator and holds no secret, no payload and no MAC.
type Error struct {
	Cause  string
	Detail string
}

// Error implements error.
func (e *Error) Error() string { return e.Cause + ": " + e.Detail }

// The causes of an Error.
const (
	CauseMissingSignature   = "missing_signature"
	CauseDoubledSignature   = "doubled_signature"
	CauseMalformedSignature = "malformed_signature"
	CauseBadSignature       = "bad_signature" // well formed, no secret matches
	CauseMissingPart        = "missing_signed_part"
	CauseAmbiguousPart      = "ambiguous_signed_part"
	CauseMissingTimestamp   = "missing_timestamp"
	CauseMalformedTimestamp = "malformed_timestamp"
	CauseTooOld             = "timestamp_too_old"
	CauseTooNew             = "timestamp_too_new"
	CauseMissingToken       = "missing_token"
	CauseDoubledToken       = "doubled_token"
	CauseBadToken           = "bad_token"
	CauseNotAllowed         = "value_not_allowed" // authentic, but not on an allow list
)

// Causes lists all causes, for those who count by them.
func Causes() []string {
	return []string{
		CauseMissingSignature, CauseDoubledSignature, CauseMalformedSignature, CauseBadSignature, CauseMissingPart,
		CauseAmbiguousPart, CauseMissingTimestamp, CauseMalformedTimestamp, CauseTooOld, CauseTooNew, CauseMissingToken,
		CauseDoubledToken, CauseBadToken, CauseNotAllowed,
	}
}
