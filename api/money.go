package api

import (
	"math/big"
	"strings"
)

// maxAmount bounds every amount and total, in minor units, positive and negative. Stripe's bound; it also keeps sums
// of 250 lines far from overflowing an int64.
const maxAmount = 99_999_999

// currencies are the accepted ISO 4217 codes, each followed by a space.
const currencies = "aed afn all amd ang aoa ars aud awg azn bam bbd bdt bhd bif bmd bnd bob brl bsd btn bwp byn bzd " +
	"cad cdf chf clp cny cop crc cve czk djf dkk dop dzd egp etb eur fjd fkp gbp gel ghs gip gmd gnf gtq gyd hkd hnl " +
	"htg huf idr ils inr isk jmd jod jpy kes kgs khr kmf krw kwd kyd kzt lak lbp lkr lrd lsl mad mdl mga mkd mmk mnt " +
	"mop mru mur mvr mwk mxn myr mzn nad ngn nio nok npr nzd omr pab pen pgk php pkr pln pyg qar ron rsd rub rwf sar " +
	"sbd scr sek sgd shp sle sos srd std szl thb tjs tnd top try ttd twd tzs uah ugx usd uyu uzs vnd vuv wst xaf xcd " +
	"xcg xof xpf yer zar zmw "

// isCurrency reports whether code is an accepted lower-case currency code.
func isCurrency(code string) bool {
	return len(code) == 3 && !strings.Contains(code, " ") && strings.Contains(currencies, code+" ")
}

// parseDecimal parses a plain decimal number with at most 12 digits after the point, the precision of Stripe's
// unit_amount_decimal. Exponents and fractions, which big.Rat would take, are not decimals.
func parseDecimal(text string) (*big.Rat, bool) {
	digits := strings.TrimPrefix(text, "-")
	whole, fraction, _ := strings.Cut(digits, ".")
	if len(whole) > 12 || len(fraction) > 12 || whole == "" || strings.Trim(whole+fraction, "0123456789") != "" {
		return nil, false
	}
	return new(big.Rat).SetString(strings.TrimSuffix(text, "."))
}

// lineAmount returns unit × quantity rounded half away from zero to whole minor units: the one rounding a line sees.
// It is false when the amount is beyond ±maxAmount.
func lineAmount(unit *big.Rat, quantity int64) (int64, bool) {
	exact := new(big.Rat).Mul(unit, new(big.Rat).SetInt64(quantity))
	// round(x) = trunc(x ± 1/2), and Quo truncates toward zero.
	half := big.NewRat(1, 2)
	if exact.Sign() < 0 {
		half.Neg(half)
	}
	exact.Add(exact, half)
	rounded := new(big.Int).Quo(exact.Num(), exact.Denom())
	if !rounded.IsInt64() || !inRange(rounded.Int64()) {
		return 0, false
	}
	return rounded.Int64(), true
}

// inRange reports whether amount is within ±maxAmount.
func inRange(amount int64) bool {
	return -maxAmount <= amount && amount <= maxAmount
}

// addAmounts returns a + b, both in range, or false when the sum is not.
func addAmounts(a, b int64) (int64, bool) {
	sum := a + b
	return sum, inRange(sum)
}
