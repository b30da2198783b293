// Package phpsession reads and writes PHP session payloads: what PHP stores
// under session.serialize_handler = php, php_binary, php_serialize or igbinary.
//
// A payload is decoded into an ordered tree that keeps types, order, references
// and object identity, visibility of properties, enums, custom serialised
// objects and classes that nobody here knows. What was not changed is encoded
// byte for byte; what was changed is encoded as PHP 8.2 does.
//
//	s, err := phpsession.Decode(phpsession.PHP, data)
//	n, err := phpsession.Get[int](s, "visits")
//	err = s.Set("visits", n+1)
//	data, err = s.Encode(s.Handler())
//
// # Trust
//
// Nothing of a payload is executed, and no class is loaded. Input of any kind
// gives an error with an offset rather than a panic. [Limits] bound size, depth
// and number of elements; all that is allocated stays under 80 bytes for each byte of input,
// since nothing is allocated for an announced length before the input is seen
// to be long enough.
//
// # Values and references
//
// [Array] is immutable, as PHP arrays are values; [Object] and [Ref] are shared
// as in PHP. [Session.Put] and [Session.Remove] change what lies deep inside.
//
// # JSON
//
// [Session.EncodeJSON] and [DecodeJSON] are lossless. A value is one of
//
//	{"null":true}  {"bool":true}  {"int":"42"}
//	{"float":"0.10000000000000001","bits":"3fb999999999999a"}
//	{"string":"text"}  {"bytes_base64":"AP8="}
//	{"array":[[key,value],…]}
//	{"object":"Class","id":1,"properties":[[name,visibility,value],…]}
//	{"object":"Class","id":1,"serialize_returns":{"array":…}}
//	{"object":"Class","id":1,"custom":{"string":"…"}}
//	{"object":"Class","id":1,"custom_value":value}
//	{"enum":"Class::Case"}
//	{"same_object_as":1}  {"same_array_as":1}  {"same_reference_as":1}
//
// A session is its array. int is in a string, since JSON numbers lose digits;
// float has 17 digits for people and its IEEE 754 bits in hexadecimal, which
// count, and a "spelling" if the payload spells it otherwise than PHP 8. Strings
// that are not UTF-8 or contain NUL are in base64. A key is an int or string
// value. A visibility is "public", "protected" or "private:Class". Whether an
// object has properties or what its __serialize returned cannot be told from a
// payload; serialize_returns stands for PHP's own classes that have it and
// where a key is an integer, and both are read alike. custom is what
// Serializable::serialize returned; custom_value the same where it is itself
// serialize() output with back-references.
//
// A PHP reference is marked at its first place, {"int":"1","reference":1}, and
// is {"same_reference_as":1} at the others. An array that igbinary shares
// between places has "array_id" at the first. Names and classes that are not
// UTF-8 stand in {"bytes_base64":…} for a name, and in "class_base64" and
// "enum_base64".
//
// Where PHP would write the session with other bytes than those decoded (data
// behind the end, a key that occurs twice, integers with a plus sign), the
// session has "original":{"handler":…,"bytes_base64":…}. It counts as long as
// the array beside it is the one that it decodes to.
package phpsession
