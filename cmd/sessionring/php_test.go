package main

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// What PHP 8.2 wrote, with each handler, against the lossless form: decode gives the value, encode the bytes.
func TestDecodeEncodeVectors(t *testing.T) {
	raw, err := os.ReadFile("../../phpsession/testdata/values.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors struct {
		Cases []struct {
			Name  string             `json:"name"`
			Bytes map[string]*string `json:"bytes_base64"`
		} `json:"cases"`
	}
	if err := json.Unmarshal(raw, &vectors); err != nil {
		t.Fatal(err)
	}
	x := newTool(t)
	checked := 0
	for _, c := range vectors.Cases {
		for handler, b64 := range c.Bytes {
			if b64 == nil {
				continue // PHP wrote no key
			}
			data, err := base64.StdEncoding.DecodeString(*b64)
			if err != nil {
				t.Fatal(err)
			}
			form := x.stdin(string(data)).run("decode", "--handler", handler).exits(exitDone)
			form.one()
			back := x.stdin(form.out).run("encode", "--handler", handler).exits(exitDone)
			if back.out != string(data) {
				t.Errorf("%s, %s: other bytes came back", c.Name, handler)
			}
			checked++
		}
	}
	if checked < 100 {
		t.Errorf("only %d payloads", checked)
	}
}

func TestDecodeContract(t *testing.T) {
	x := newTool(t)
	const payload, form = `visits|i:7;f|d:750;`, `{"array":[[{"string":"visits"},{"int":"7"}],[{"string":"f"},{"float":"750","bits":"4087700000000000"}]]}` + "\n"
	for _, args := range [][]string{{"decode"}, {"decode", "--handler", "php"}, {"decode", "--handler=PHP", "--json"}} {
		if r := x.stdin(payload).run(args...).exits(exitDone); r.out != form {
			t.Errorf("%v prints %s", args, r.out)
		}
	}
	x.stdin(payload).run("decode").says("handler php")
	if r := x.stdin(form).run("encode").exits(exitDone); r.out != payload || r.err != "" {
		t.Errorf("encode writes %q and says %q", r.out, r.err)
	}
	if r := x.run("decode").exits(exitDone); r.out != `{"array":[]}`+"\n" {
		t.Errorf("decode of nothing prints %s", r.out)
	}
	igbinary := x.stdin(form).run("encode", "--handler", "igbinary").exits(exitDone)
	r := x.stdin(igbinary.out).run("decode").exits(exitDone).says("handler igbinary")
	if r.out != form {
		t.Errorf("from igbinary: %s", r.out)
	}
}

// Case read-with-the-wrong-serializer.
func TestDecodeWrongHandler(t *testing.T) {
	x := newTool(t)
	igbinary := "\x00\x00\x00\x02\x14\x01\x11\x01\x61\x06\x07"
	for _, c := range []struct{ data, handler, looks string }{
		{igbinary, "php", "igbinary"},
		{"a|i:7;", "igbinary", "php"},
		{`a:1:{s:1:"a";i:7;}`, "php", "php_serialize"},
	} {
		r := x.stdin(c.data).run("decode", "--handler", c.handler).exits(exitFailed).says("looks like handler "+c.looks, "try --handler "+c.looks)
		if r.out != "" {
			t.Errorf("%s as %s prints %s", c.looks, c.handler, r.out)
		}
		x.stdin(c.data).run("decode").exits(exitDone)
	}
}

// Cases trailing-garbage and pipe-inside-a-value.
func TestDecodeCases(t *testing.T) {
	x := newTool(t)
	for data, want := range map[string]string{
		"a|i:1;garbage": "", "a|i:1;b": "", "a|b:2;": "",
		"a|i:1;a|i:2;": `{"int":"2"}`, "a|i:12345678901234567890;": `{"int":"9223372036854775807"}`,
	} {
		r := x.stdin(data).run("decode", "--handler", "php")
		if want == "" {
			if r.exits(exitFailed); r.out != "" {
				t.Errorf("%s: prints %s", data, r.out)
			}
			continue
		}
		r.exits(exitDone).says("warning:")
		if !strings.Contains(r.out, `[[{"string":"a"},`+want+`]]`) {
			t.Errorf("%s: %s", data, r.out)
		}
		if back := x.stdin(r.out).run("encode").exits(exitDone); back.out != data {
			t.Errorf("%s comes back as %s", data, back.out)
		}
	}
	x.stdin(`a:1:{s:1:"a";i:1;}junk`).run("decode", "--handler", "php_serialize").exits(exitDone).says("4 bytes behind")
	x.stdin(`a:1:{s:1:"a";i:1;}junk`).run("decode", "--handler", "php_serialize", "--strict").exits(exitFailed)
	x.stdin("i:5;").run("decode", "--handler", "php_serialize").exits(exitFailed).says("not an array")

	piped, err := base64.StdEncoding.DecodeString("bm90ZXxzOjc6ImF8YjtjfWQiO2NhcnR8YToyOntpOjA7czo2OiJ4fGk6OTsiO2k6MTtzOjM6In18eyI7fWxhc3R8czoxNzoidXNlcnxzOjU6ImFkbWluIjsiOw==")
	if err != nil {
		t.Fatal(err)
	}
	r := x.stdin(string(piped)).run("decode").exits(exitDone)
	if !strings.Contains(r.out, `{"string":"user|s:5:\"admin\";"}`) {
		t.Errorf("a pipe inside a value: %s", r.out)
	}
	if back := x.stdin(r.out).run("encode").exits(exitDone); back.out != string(piped) {
		t.Errorf("it comes back as %q", back.out)
	}
}

func TestEncodeRefusals(t *testing.T) {
	x := newTool(t)
	for in, says := range map[string]string{
		"": "malformed session JSON", "[1,2]": "malformed", `{"array":[[{"string":"a|b"},{"int":"1"}]]}`: "cannot", `{"array":[[{"int":"7"},{"int":"1"}]]}`: "cannot",
	} {
		if r := x.stdin(in).run("encode", "--handler", "php").exits(exitFailed).says(says); r.out != "" {
			t.Errorf("%s: writes %q", in, r.out)
		}
	}
}
