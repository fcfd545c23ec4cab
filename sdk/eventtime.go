package sdk

import (
	"strings"
	"time"
)

// ValidTime reports whether s can be an event's time: RFC 3339 with a zone and any number of fractional digits. A decoder
// leaves Event.Time empty for anything else. time.Parse alone also takes a comma for the point and an hour of one digit.
func ValidTime(s string) bool {
	if len(s) < len("2006-01-02T15:04:05Z") || s[len("2006-01-02T15")] != ':' || strings.Contains(s, ",") {
		return false
	}
	_, err := time.Parse(time.RFC3339, s)
	return err == nil
}
