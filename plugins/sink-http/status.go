package main

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// class is what an answer means.
type class uint8

const (
	classNone class = iota
	classSuccess
	classRetry
	classReject
	classSuspend
)

// verdict is the class of a status.
type verdict struct {
	class    class
	explicit bool // the configuration says so
}

// classes are the verdicts of the statuses 200 to 599.
type classes [600]verdict

// of is the verdict of any status. What is no final status is a fault of the endpoint that may pass.
func (c *classes) of(status int) verdict {
	if status < 200 || status >= len(c) {
		return verdict{class: classRetry}
	}
	return c[status]
}

// defaultClasses: what speaks of one event rejects it, what speaks of the endpoint or of who asks suspends the sink, and
// the rest passes.
func defaultClasses() *classes {
	var c classes
	for status := 200; status < len(c); status++ {
		c[status].class = [...]class{2: classSuccess, 3: classSuspend, 4: classReject, 5: classRetry}[status/100]
	}
	for _, status := range []int{401, 402, 403, 404, 405, 407, 410, 426} {
		c[status].class = classSuspend
	}
	for _, status := range []int{408, 421, 423, 425, 429} {
		c[status].class = classRetry
	}
	return &c
}

// parseStatus reads "404" or "4xx" and returns the statuses from first to last.
func parseStatus(text string) (first, last int, ok bool) {
	if len(text) != 3 || text[0] < '2' || text[0] > '5' {
		return 0, 0, false
	}
	if strings.EqualFold(text[1:], "xx") {
		first = int(text[0]-'0') * 100
		return first, first + 99, true
	}
	n, err := strconv.ParseUint(text, 10, 16)
	return int(n), int(n), err == nil
}

// checkStatus makes the verdicts: the defaults, over them the configured classes, over them the configured statuses.
func (c *Config) checkStatus(p *problems) classes {
	verdicts := defaultClasses()
	if c.Status == nil {
		return *verdicts
	}
	lists := []struct {
		name  string
		class class
		texts []string
	}{
		{"success", classSuccess, c.Status.Success}, {"retry", classRetry, c.Status.Retry},
		{"reject", classReject, c.Status.Reject}, {"suspend", classSuspend, c.Status.Suspend},
	}
	seen := map[string]string{}
	for _, exact := range []bool{false, true} {
		for _, list := range lists {
			for i, text := range list.texts {
				path := at("status", list.name, strconv.Itoa(i))
				first, last, ok := parseStatus(text)
				if !ok {
					if !exact {
						p.add(path, `Write a status like "404" or a class like "4xx", from 200 to 599.`, "is not a status")
					}
					continue
				}
				if exact != (first == last) {
					continue
				}
				key := strings.ToLower(text)
				if other := seen[key]; other != "" {
					p.add(path, "", "stands in %s already", other)
					continue
				}
				seen[key] = list.name
				for status := first; status <= last; status++ {
					verdicts[status] = verdict{list.class, true}
				}
			}
		}
	}
	return *verdicts
}

// retryAfter reads a Retry-After header: seconds, or a date, which is compared with the answer's own date, so that the two
// clocks need not agree.
func retryAfter(h http.Header, now time.Time) (time.Duration, bool) {
	text := strings.TrimSpace(h.Get("Retry-After"))
	if text == "" {
		return 0, false
	}
	if strings.Trim(text, "0123456789") == "" {
		const most = 1 << 30 // seconds; the host caps it anyway
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil || n > most {
			n = most
		}
		return time.Duration(n) * time.Second, true
	}
	when, err := http.ParseTime(text)
	if err != nil {
		return 0, false
	}
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	return max(when.Sub(now), 0), true
}
