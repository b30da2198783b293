package sessiontest

import (
	"fmt"
	"io"
	"strings"
)

// Report is what Check found of one store.
type Report struct {
	Store   string
	Results []Result
}

// WriteTable writes a table in Markdown, a row a check and a column a store, and below it why stores failed a
// check or passed it in a way of their own, numbered.
func WriteTable(w io.Writer, reports ...Report) error {
	var b strings.Builder
	b.WriteString("| check |")
	for _, r := range reports {
		b.WriteString(" " + cell(r.Store) + " |")
	}
	b.WriteString("\n| --- |" + strings.Repeat(" --- |", len(reports)) + "\n")
	var notes []string
	number := func(check, text string) int {
		n := fmt.Sprintf("%s: %s", check, cell(text))
		for i, known := range notes {
			if known == n {
				return i + 1
			}
		}
		notes = append(notes, n)
		return len(notes)
	}
	for i, c := range checks() {
		fmt.Fprintf(&b, "| %s: %s |", c.name, cell(c.asks))
		for _, r := range reports {
			if i >= len(r.Results) {
				b.WriteString(" |")
				continue
			}
			res := r.Results[i]
			mark := map[Verdict]string{Pass: "yes", Fail: "**no**", NotOffered: "–"}[res.Verdict]
			if res.Note != "" && res.Verdict != NotOffered {
				mark += fmt.Sprintf(" (%d)", number(c.name, res.Note))
			}
			b.WriteString(" " + mark + " |")
		}
		b.WriteString("\n")
	}
	if len(notes) > 0 {
		b.WriteString("\n")
	}
	for i, n := range notes {
		fmt.Fprintf(&b, "%d. %s\n", i+1, n)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// cell makes one line that ends no cell.
func cell(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return strings.ReplaceAll(s, "|", `\|`)
}
