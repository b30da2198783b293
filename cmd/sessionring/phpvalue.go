package main

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/sessionring/sessionring/phpsession"
)

// printPHP prints a session for people, a line a value, elements indented below their array or object.
func printPHP(w io.Writer, s *phpsession.Session) error {
	p := phpPrinter{out: bufio.NewWriter(w), objects: map[*phpsession.Object]int{}, refs: map[*phpsession.Ref]int{}}
	if s.Len() == 0 {
		fmt.Fprintln(p.out, "(no variables)")
	}
	for k, v := range s.All() {
		p.element(0, keyText(k), v)
	}
	return p.out.Flush()
}

type phpPrinter struct {
	out     *bufio.Writer
	objects map[*phpsession.Object]int // by number, in order of appearance
	refs    map[*phpsession.Ref]int
}

// maxIndent keeps deeply nested values readable and their printing linear.
const maxIndent = 64

func (p *phpPrinter) element(depth int, name string, v phpsession.Value) {
	indent := strings.Repeat("  ", min(depth, maxIndent))
	mark := ""
	if ref, ok := v.(*phpsession.Ref); ok {
		if n, seen := p.refs[ref]; seen {
			fmt.Fprintf(p.out, "%s%s: reference &%d, see above\n", indent, name, n)
			return
		}
		p.refs[ref] = len(p.refs) + 1
		mark = fmt.Sprintf("&%d ", p.refs[ref])
		v = phpsession.Deref(v)
	}
	switch v := v.(type) {
	case *phpsession.Array:
		fmt.Fprintf(p.out, "%s%s: %sarray of %d\n", indent, name, mark, v.Len())
		for k, e := range v.All() {
			p.element(depth+1, keyText(k), e)
		}
	case *phpsession.Object:
		p.object(depth, indent+name+": "+mark, v)
	default:
		fmt.Fprintf(p.out, "%s%s: %s%s\n", indent, name, mark, scalarText(v))
	}
}

func (p *phpPrinter) object(depth int, head string, o *phpsession.Object) {
	if n, seen := p.objects[o]; seen {
		fmt.Fprintf(p.out, "%sobject #%d, see above\n", head, n)
		return
	}
	n := len(p.objects) + 1
	p.objects[o] = n
	class := bareOrQuoted(o.Class())
	if data, ok := o.Custom(); ok {
		fmt.Fprintf(p.out, "%sobject #%d of class %s, serialized by itself: %s\n", head, n, class, quote(data))
		return
	}
	fmt.Fprintf(p.out, "%sobject #%d of class %s\n", head, n, class)
	for prop := range o.Properties() {
		p.element(depth+1, propertyText(prop, o.Class()), prop.Value)
	}
}

func propertyText(prop phpsession.Property, class string) string {
	name := bareOrQuoted(prop.Name)
	switch prop.Visibility {
	case phpsession.Protected:
		return name + " (protected)"
	case phpsession.Private:
		if prop.Class != class {
			return name + " (private of " + bareOrQuoted(prop.Class) + ")"
		}
		return name + " (private)"
	}
	return name
}

func scalarText(v phpsession.Value) string {
	switch v := v.(type) {
	case phpsession.Null:
		return "null"
	case phpsession.Bool:
		return strconv.FormatBool(bool(v))
	case phpsession.Int:
		return strconv.FormatInt(int64(v), 10)
	case phpsession.Float:
		if s := v.String(); strings.ContainsAny(s, ".EINN") {
			return s
		}
		return v.String() + ".0" // so that 750.0 is not taken for an int
	case phpsession.String:
		return quote(string(v))
	case phpsession.Enum:
		return bareOrQuoted(v.Class) + "::" + bareOrQuoted(v.Case)
	case nil:
		return "null"
	}
	return fmt.Sprintf("(%T)", v)
}

func keyText(k phpsession.Key) string {
	if k.IsInt() {
		return k.String()
	}
	return bareOrQuoted(k.String())
}

// quote is Go's quoting: control bytes and what is not UTF-8 are escaped, so a terminal obeys nothing.
func quote(s string) string { return strconv.Quote(s) }

// bareOrQuoted leaves names alone that cannot be mistaken.
func bareOrQuoted(s string) string {
	if s == "" || !utf8.ValidString(s) {
		return quote(s)
	}
	for _, r := range s {
		word := r == '_' || r == '\\' || r == '-' || r == '.' || (r >= '0' && r <= '9') || (r >= 'a' && r <= 'z') || (r >= 'A' && r <= 'Z')
		if !word && (r < 0xa0 || !strconv.IsPrint(r)) {
			return quote(s)
		}
	}
	return s
}
