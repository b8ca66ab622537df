package api

import (
	"math"
	"math/big"
	"strings"
	"testing"
)

func TestIsCurrency(t *testing.T) {
	for _, code := range []string{"usd", "eur", "jpy", "kwd", "aed", "zmw"} {
		if !isCurrency(code) {
			t.Errorf("%s is refused", code)
		}
	}
	for _, code := range []string{"", " ", "us", "sd ", "d e", "USD", "usdeur", "xyz", "usd "} {
		if isCurrency(code) {
			t.Errorf("%q is accepted", code)
		}
	}
	for code := range strings.FieldsSeq(currencies) {
		if len(code) != 3 || strings.ToLower(code) != code {
			t.Errorf("%q is no lower-case ISO 4217 code", code)
		}
	}
}

func TestParseDecimal(t *testing.T) {
	for text, want := range map[string]string{
		"0": "0", "12": "12", "12.5": "25/2", "-0.125": "-1/8", "1.": "1", "007": "7", "999999999999": "999999999999",
		"0.000000000001": "1/1000000000000",
	} {
		if got, ok := parseDecimal(text); !ok || got.RatString() != want {
			t.Errorf("%q is %v, want %s", text, got, want)
		}
	}
	for _, text := range []string{
		"", "-", ".", ".5", "+1", "--1", "1e3", "1/2", "0x10", "1_000", " 1", "1.2.3", "inf", "NaN", "1,5", "１",
		"1000000000000", "0.0000000000001",
	} {
		if got, ok := parseDecimal(text); ok {
			t.Errorf("%q is accepted as %v", text, got)
		}
	}
}

func TestLineAmount(t *testing.T) {
	tests := []struct {
		unit     string
		quantity int64
		want     int64
		ok       bool
	}{
		{"12.345", 10, 123, true},
		{"0.5", 1, 1, true},
		{"-0.5", 1, -1, true},
		{"1.5", 1, 2, true},
		{"-1.5", 1, -2, true},
		{"2.5", 1, 3, true}, // half away from zero, not to even
		{"0.49999", 1, 0, true},
		{"-0.49999", 1, 0, true},
		{"0.1", 3, 0, true}, // once for the line, not for each unit
		{"0.333", 3, 1, true},
		{"5", 0, 0, true},
		{"99999999", 1, 99_999_999, true},
		{"99999999.4", 1, 99_999_999, true},
		{"99999999.5", 1, 0, false},
		{"-99999999.5", 1, 0, false},
		{"1", math.MaxInt64, 0, false},
		{"999999999999", math.MaxInt64, 0, false},
		{"-999999999999", math.MaxInt64, 0, false},
		{"0.000000000001", math.MaxInt64, 9_223_372, true},
	}
	for _, test := range tests {
		unit, ok := parseDecimal(test.unit)
		if !ok {
			t.Fatalf("%q is refused", test.unit)
		}
		got, ok := lineAmount(unit, test.quantity)
		if got != test.want || ok != test.ok {
			t.Errorf("%s × %d = %d, %v; want %d, %v", test.unit, test.quantity, got, ok, test.want, test.ok)
		}
	}
}

// FuzzLineAmount compares the rounding with its definition: no integer is nearer, and of two as near it is the one
// farther from zero.
func FuzzLineAmount(f *testing.F) {
	f.Add(int64(12345), uint32(10))
	f.Add(int64(-5), uint32(100))
	f.Add(int64(2500), uint32(1))
	f.Fuzz(func(t *testing.T, thousandths int64, quantity uint32) {
		unit := big.NewRat(thousandths, 1000)
		got, ok := lineAmount(unit, int64(quantity))
		exact := new(big.Rat).Mul(unit, new(big.Rat).SetInt64(int64(quantity)))
		if !ok {
			if limit := new(big.Rat).SetFloat64(maxAmount + 0.5); new(big.Rat).Abs(exact).Cmp(limit) < 0 {
				t.Fatalf("%v × %d is refused though in range", unit, quantity)
			}
			return
		}
		distance := new(big.Rat).Sub(exact, new(big.Rat).SetInt64(got))
		switch distance.Abs(distance).Cmp(big.NewRat(1, 2)) {
		case 1:
			t.Fatalf("%v × %d = %d is not the nearest integer", unit, quantity, got)
		case 0:
			if magnitude := new(big.Rat).SetInt64(got); magnitude.Abs(magnitude).Cmp(new(big.Rat).Abs(exact)) < 0 {
				t.Fatalf("%v × %d = %d is rounded toward zero", unit, quantity, got)
			}
		}
	})
}

func TestAddAmounts(t *testing.T) {
	if sum, ok := addAmounts(maxAmount, -maxAmount); sum != 0 || !ok {
		t.Errorf("%d, %v", sum, ok)
	}
	if _, ok := addAmounts(maxAmount, 1); ok {
		t.Error("beyond the bound")
	}
	if _, ok := addAmounts(-maxAmount, -1); ok {
		t.Error("beyond the negative bound")
	}
}
