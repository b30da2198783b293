package phpsession

import (
	"math"
	"strconv"
)

// A Float is a PHP float. It keeps every bit, also of a NaN, and the spelling
// it was decoded with, so that 0.10000000000000001 written by an old PHP is
// written back as it was.
type Float struct {
	bits uint64
	text string // spelling in serialize() format where PHP 8 spells otherwise
}

// phpNaN has the bits of PHP's NAN; Go's differ in the last.
const phpNaN = 0x7ff8000000000000

// NewFloat returns f as a PHP float. Every NaN becomes PHP's NAN.
func NewFloat(f float64) Float {
	if math.IsNaN(f) {
		return Float{bits: phpNaN}
	}
	return Float{bits: math.Float64bits(f)}
}

// Float64 returns the number.
func (f Float) Float64() float64 { return math.Float64frombits(f.bits) }

// String returns the spelling of PHP's serialize().
func (f Float) String() string {
	if f.text != "" {
		return f.text
	}
	return string(appendFloat(nil, f.Float64(), -1, 'E'))
}

// parsedFloat keeps text only where PHP 8 would write something else.
func parsedFloat(f float64, text string) Float {
	var buf [32]byte
	v := NewFloat(f)
	if string(appendFloat(buf[:0], f, -1, 'E')) != text {
		v.text = text
	}
	return v
}

// appendFloat spells f as PHP does with 17 significant digits at most: the
// shortest digits that give f back for prec -1 (serialize_precision -1, the
// default since PHP 7.1), exactly rounded to prec digits otherwise. Outside of
// 1e-4 to 1e17 it uses an exponent, marked with mark.
func appendFloat(b []byte, f float64, prec int, mark byte) []byte {
	switch {
	case math.IsNaN(f):
		return append(b, "NAN"...)
	case math.IsInf(f, 1):
		return append(b, "INF"...)
	case math.IsInf(f, -1):
		return append(b, "-INF"...)
	}
	if math.Signbit(f) {
		b = append(b, '-')
		f = -f
	}
	if f == 0 {
		return append(b, '0')
	}
	var buf [32]byte
	if prec > 0 {
		prec--
	}
	e := strconv.AppendFloat(buf[:0], f, 'e', prec, 64) // d.ddde±xx
	digits := make([]byte, 0, 24)
	i := 0
	for ; e[i] != 'e'; i++ {
		if e[i] != '.' {
			digits = append(digits, e[i])
		}
	}
	for len(digits) > 1 && digits[len(digits)-1] == '0' {
		digits = digits[:len(digits)-1]
	}
	exp, _ := strconv.Atoi(string(e[i+1:]))
	point := exp + 1 // digits before the decimal point
	switch {
	case point > 17 || point < -3:
		b = append(b, digits[0], '.')
		if len(digits) == 1 {
			b = append(b, '0')
		}
		b = append(b, digits[1:]...)
		b = append(b, mark)
		if exp >= 0 {
			b = append(b, '+')
		}
		return strconv.AppendInt(b, int64(exp), 10)
	case point <= 0:
		b = append(b, "0."...)
		for ; point < 0; point++ {
			b = append(b, '0')
		}
		return append(b, digits...)
	case point >= len(digits):
		b = append(b, digits...)
		for n := len(digits); n < point; n++ {
			b = append(b, '0')
		}
		return b
	}
	b = append(b, digits[:point]...)
	b = append(b, '.')
	return append(b, digits[point:]...)
}
