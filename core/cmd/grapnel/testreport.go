package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"os"
	"strings"
	"time"
)

// testLine is a test as test prints it with --json.
type testLine struct {
	Test     string    `json:"test"`
	File     string    `json:"file"`
	Line     int       `json:"line"`
	Passed   bool      `json:"passed"`
	Failures []failure `json:"failures,omitempty"`
}

// testSummary is the last line that test prints with --json.
type testSummary struct {
	Passed   int       `json:"passed"`
	Failed   int       `json:"failed"`
	TookMS   int64     `json:"took_ms"`
	Coverage *coverage `json:"coverage,omitempty"`
}

// show prints what became of the tests.
func (r *testRun) show(p printer) error {
	failed := r.failed()
	if p.json {
		for i := range r.results {
			t := &r.results[i]
			line := testLine{t.Name, t.Range.File, t.Range.Line, len(t.failures) == 0, t.failures}
			b, err := jsonWithout(r.cfg.Secrets, line)
			if err != nil {
				return err
			}
			if _, err := p.out.Write(b); err != nil {
				return err
			}
		}
		b, err := jsonWithout(r.cfg.Secrets, testSummary{
			len(r.results) - failed, failed, r.took.Milliseconds(), r.coverage,
		})
		if err != nil {
			return err
		}
		_, err = p.out.Write(b)
		return err
	}
	v := newView(p.out, r.cfg.Secrets)
	for i := range r.results {
		v.tested(&r.results[i])
	}
	v.line(0, "")
	summary := fmt.Sprintf("%d passed", len(r.results)-failed)
	if failed > 0 {
		v.line(0, "%s, %s", summary, v.paint(red, fmt.Sprintf("%d failed", failed)))
	} else {
		v.line(0, "%s", v.paint(green, summary))
	}
	if r.coverage != nil {
		for _, line := range r.coverage.lines() {
			v.line(0, "%s", v.text(line))
		}
	}
	return v.flush()
}

// tested writes what became of a test.
func (v *view) tested(t *tested) {
	if len(t.failures) == 0 {
		v.line(0, "%s    %s  %s", v.paint(green, "ok"), v.text(t.Name), v.paint(grey, v.text(t.place())))
		return
	}
	v.line(0, "%s  %s  %s", v.paint(red, "FAIL"), v.paint(bold, v.text(t.Name)), v.paint(grey, v.text(t.place())))
	for _, f := range t.failures {
		v.line(3, "%s", v.text(f.Text))
		for _, why := range f.Why {
			v.line(4, "%s", v.text(why))
		}
		if len(f.Diff) > 0 {
			v.line(4, "%s %s", v.paint(green, "- expected"), v.paint(red, "+ is"))
		}
		for _, line := range f.Diff {
			code := ""
			switch line[0] {
			case '-':
				code = green
			case '+':
				code = red
			}
			v.line(4, "%s", v.paint(code, v.text(line)))
		}
	}
}

// The elements of a report in the form of JUnit, as far as CI systems read it.
type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Time     string       `xml:"time,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		At       string      `xml:"timestamp,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Name    string        `xml:"name,attr"`
		Class   string        `xml:"classname,attr"`
		File    string        `xml:"file,attr"`
		Line    int           `xml:"line,attr"`
		Failure *junitFailure `xml:"failure"`
	}
	junitFailure struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

// junit writes a report to a file.
func (r *testRun) junit(file string) error {
	report := junitSuites{
		Tests: len(r.results), Failures: r.failed(), Time: fmt.Sprintf("%.3f", r.took.Seconds()),
	}
	v := newView(nil, r.cfg.Secrets) // for what it takes out
	for i := range r.results {
		t := &r.results[i]
		if n := len(report.Suites); n == 0 || report.Suites[n-1].Name != t.suite() {
			report.Suites = append(report.Suites, junitSuite{Name: t.suite(), At: r.began.UTC().Format(time.RFC3339)})
		}
		s := &report.Suites[len(report.Suites)-1]
		c := junitCase{
			Name: v.text(t.Name), Class: strings.TrimSuffix(t.suite(), ".test.hcl"), File: t.Range.File, Line: t.Range.Line,
		}
		if len(t.failures) > 0 {
			var text bytes.Buffer
			for _, f := range t.failures {
				for _, line := range append(append([]string{f.Text}, f.Why...), f.Diff...) {
					fmt.Fprintln(&text, v.text(line))
				}
			}
			c.Failure = &junitFailure{Message: v.text(t.failures[0].Text), Text: text.String()}
			s.Failures++
		}
		s.Tests++
		s.Cases = append(s.Cases, c)
	}
	b, err := xml.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append([]byte(xml.Header), append(b, '\n')...), 0o644)
}
