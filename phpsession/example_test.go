package phpsession_test

import (
	"errors"
	"fmt"
	"log"

	"github.com/sessionring/sessionring/phpsession"
)

// Count a visit in a session that PHP wrote; everything else stays as it was.
func Example() {
	data := []byte(`visits|i:41;user|O:4:"User":1:{s:4:"name";s:3:"Ann";}price|d:750;`)
	s, err := phpsession.Decode(phpsession.PHP, data)
	if err != nil {
		log.Fatal(err)
	}
	visits, err := phpsession.Get[int](s, "visits")
	if err != nil {
		log.Fatal(err)
	}
	if err := s.Set("visits", visits+1); err != nil {
		log.Fatal(err)
	}
	data, err = s.Encode(s.Handler())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", data)
	// Output: visits|i:42;user|O:4:"User":1:{s:4:"name";s:3:"Ann";}price|d:750;
}

func ExampleSession_Put() {
	s, err := phpsession.Decode(phpsession.PHP, []byte(`_sf2_attributes|a:1:{s:4:"cart";a:1:{i:0;a:2:{s:2:"id";i:7;s:3:"qty";i:1;}}}`))
	if err != nil {
		log.Fatal(err)
	}
	if err := s.Put(2, "_sf2_attributes", "cart", 0, "qty"); err != nil {
		log.Fatal(err)
	}
	qty, err := s.Lookup("_sf2_attributes", "cart", 0, "qty")
	fmt.Println(qty, err)
	// Output: 2 <nil>
}

func ExampleSession_Unmarshal() {
	type Item struct {
		ID    int     `php:"id"`
		Price float64 `php:"price"`
	}
	var session struct {
		UserID int    `php:"user_id"`
		Cart   []Item `php:"cart"`
	}
	s, err := phpsession.Decode(phpsession.PHPSerialize, []byte(`a:2:{s:7:"user_id";i:5;s:4:"cart";a:1:{i:0;a:2:{s:2:"id";i:7;s:5:"price";d:2.5;}}}`))
	if err != nil {
		log.Fatal(err)
	}
	if err := s.Unmarshal(&session); err != nil {
		log.Fatal(err)
	}
	session.Cart = append(session.Cart, Item{ID: 8, Price: 750})
	if err := s.Assign(session); err != nil {
		log.Fatal(err)
	}
	b, err := s.Encode(phpsession.PHPSerialize)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", b)
	// Output: a:2:{s:7:"user_id";i:5;s:4:"cart";a:2:{i:0;a:2:{s:2:"id";i:7;s:5:"price";d:2.5;}i:1;a:2:{s:2:"id";i:8;s:5:"price";d:750;}}}
}

// The two sides are configured with different serializers.
func ExampleWrongHandlerError() {
	_, err := phpsession.Decode(phpsession.PHP, []byte("\x00\x00\x00\x02\x14\x01\x11\x01a\x06\x07"))
	var wrong *phpsession.WrongHandlerError
	if errors.As(err, &wrong) {
		fmt.Println("written with", wrong.LooksLike)
	}
	// Output: written with igbinary
}

func ExampleSession_EncodeJSON() {
	s, err := phpsession.Decode(phpsession.PHP, []byte("u|O:4:\"User\":1:{s:5:\"\x00*\x00id\";i:7;}f|d:0.1;g|R:3;"))
	if err != nil {
		log.Fatal(err)
	}
	js, err := s.EncodeJSON()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", js)
	back, err := phpsession.DecodeJSON(js)
	if err != nil {
		log.Fatal(err)
	}
	b, err := back.Encode(phpsession.PHP)
	fmt.Printf("%q %v\n", b, err)
	// Output:
	// {"array":[[{"string":"u"},{"object":"User","id":1,"properties":[["id","protected",{"int":"7"}]]}],[{"string":"f"},{"float":"0.10000000000000001","bits":"3fb999999999999a","reference":1}],[{"string":"g"},{"same_reference_as":1}]]}
	// "u|O:4:\"User\":1:{s:5:\"\x00*\x00id\";i:7;}f|d:0.1;g|R:3;" <nil>
}

// Laravel's cache-backed session is a serialized array inside a serialized string.
func ExampleDecodeValue() {
	_, err := phpsession.DecodeValue(phpsession.PHPSerialize, []byte(`s:26:"a:1:{s:6:"_token";s:1:"t";}";`))
	if err != nil {
		fmt.Println(err)
	}
	v, err := phpsession.DecodeValue(phpsession.PHPSerialize, []byte(`s:27:"a:1:{s:6:"_token";s:1:"t";}";`))
	if err != nil {
		log.Fatal(err)
	}
	var inner string
	if err := phpsession.Unmarshal(v, &inner); err != nil {
		log.Fatal(err)
	}
	attributes, err := phpsession.Decode(phpsession.PHPSerialize, []byte(inner))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(attributes.Keys())
	// Output:
	// phpsession: php_serialize, offset 2: malformed session data: the string does not end where its length says
	// [_token]
}

func ExampleDropKeys() {
	var s phpsession.Session
	if err := s.Assign(phpsession.Pairs{{Key: "a|b", Value: 1}, {Key: "ok", Value: 2}}); err != nil {
		log.Fatal(err)
	}
	_, err := s.Encode(phpsession.PHP)
	fmt.Println(err)
	b, err := s.Encode(phpsession.PHP, phpsession.DropKeys(func(k phpsession.Key) { fmt.Println("dropped", k) }))
	fmt.Printf("%s %v\n", b, err)
	// Output:
	// phpsession: handler php: key cannot be stored by this serialize handler: key "a|b" contains '|'
	// dropped a|b
	// ok|i:2; <nil>
}
