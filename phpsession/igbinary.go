package phpsession

// Handler igbinary: the format of the igbinary extension, version 2 (version 1
// is read too). A header of four bytes, then one value. A value is a type byte
// followed by its content, integers in big-endian order.
//
// Two tables are filled while reading and writing alike:
//
//   - strings: every string but the empty one, keys and class names included,
//     gets the next number when it is written out; later it is that number.
//   - references: every array, every object and every scalar that is a PHP
//     reference gets the next number when it starts (a scalar when it ends).
//     The elements of an object are not an array of their own. A later
//     occurrence is igRef (arrays, references) or igObjectRef. Unlike in
//     serialize(), two places that share one array without being references
//     are written as that array once.
//
// Checked against igbinary 3.2.13.

const (
	igHeader   = "\x00\x00\x00\x02"
	igHeaderV1 = "\x00\x00\x00\x01"
)

// Type bytes. The variants with counts of 8, 16 and 32 bits follow each other.
const (
	igNull        = 0x00
	igRef8        = 0x01
	igFalse       = 0x04
	igTrue        = 0x05
	igInt8        = 0x06 // odd type bytes are the negative ones
	igInt32n      = 0x0b
	igDouble      = 0x0c
	igEmptyString = 0x0d
	igStringID8   = 0x0e
	igString8     = 0x11
	igArray8      = 0x14
	igArray32     = 0x16
	igObject8     = 0x17
	igObjectID8   = 0x1a
	igCustom8     = 0x1d
	igInt64       = 0x20
	igInt64n      = 0x21
	igObjectRef8  = 0x22
	igReference   = 0x25
	igString64    = 0x26
	igEnum        = 0x27
)
