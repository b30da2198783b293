package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
)

// begin and end are the lines between which a section's table stands.
func begin(name string) string { return "<!-- scale: " + name + " -->\n" }

const end = "<!-- scale: end -->\n"

// sectionOf returns what stands between a section's markers.
func sectionOf(doc, name string) (before, table, after string, err error) {
	before, rest, found := strings.Cut(doc, begin(name))
	if !found {
		return "", "", "", fmt.Errorf("no line %q", strings.TrimSpace(begin(name)))
	}
	table, after, found = strings.Cut(rest, end)
	if !found {
		return "", "", "", fmt.Errorf("no line %q after section %s", strings.TrimSpace(end), name)
	}
	return before + begin(name), table, end + after, nil
}

// rewrite puts the tables into the document.
func rewrite(ctx context.Context, s *study, file string, progress io.Writer) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	doc := string(b)
	for _, section := range sections {
		fmt.Fprintln(progress, section.name)
		before, _, after, err := sectionOf(doc, section.name)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		table, err := section.table(s, ctx)
		if err != nil {
			return err
		}
		doc = before + "\n" + table + "\n" + after
	}
	return os.WriteFile(file, []byte(doc), 0o644)
}
