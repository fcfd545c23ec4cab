package doctor

// Severity says how bad a finding is.
type Severity string

// The severities.
const (
	OK      Severity = "ok"      // as it should be, or worth knowing
	Warning Severity = "warning" // it works, and should be looked at
	Problem Severity = "problem" // it does not work, loses something or is open to others
)

// Finding is what a check found.
type Finding struct {
	Check    string   `json:"check"` // one of the names in docs/operations/doctor.md
	Severity Severity `json:"severity"`
	What     string   `json:"what"`
	Where    string   `json:"where,omitempty"`  // file, setting, sink
	Advice   string   `json:"advice,omitempty"` // of all but ok
}

// Worst is the worst severity among findings.
func Worst(fs []Finding) Severity {
	worst := OK
	for _, f := range fs {
		if f.Severity == Problem {
			return Problem
		}
		if f.Severity == Warning {
			worst = Warning
		}
	}
	return worst
}

// findings collects the findings of one check.
type findings struct {
	check string
	list  []Finding
}

func (f *findings) add(s Severity, where, what, advice string) {
	f.list = append(f.list, Finding{Check: f.check, Severity: s, What: what, Where: where, Advice: advice})
}

func (f *findings) warn(where, what, advice string)    { f.add(Warning, where, what, advice) }
func (f *findings) problem(where, what, advice string) { f.add(Problem, where, what, advice) }

// orOK returns the findings, or that all is well.
func (f *findings) orOK(where, what string) []Finding {
	if len(f.list) == 0 {
		f.add(OK, where, what, "")
	}
	return f.list
}
