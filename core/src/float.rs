//! Decimal text to the nearest f64, in two KiB of code and tables: the standard library's takes 17 KiB of every bundle.

use alloc::vec::Vec;

/// The f64 nearest to a decimal number (ties to even), or `None` where the text is none. Digits may have a sign before them, a
/// point among them and an exponent behind them; `inf`, `infinity` and `nan` count in any case. What is too large is infinite.
pub(crate) fn parse_f64(text: &str) -> Option<f64> {
    let (negative, rest) = match text.as_bytes() {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let is = |word: &[u8]| rest.eq_ignore_ascii_case(word);
    let magnitude = if is(b"inf") || is(b"infinity") {
        f64::INFINITY
    } else if is(b"nan") {
        f64::NAN
    } else {
        Decimal::read(rest)?.nearest()
    };
    Some(if negative { -magnitude } else { magnitude })
}

/// A decimal number: its digits with the point left out, times 10 to the `exponent`.
struct Decimal<'t> {
    /// From the first digit that is not zero; a point may be among them.
    digits: &'t [u8],
    /// How many there are.
    digit_count: usize,
    /// The first [`MANTISSA_DIGITS`] of them.
    mantissa: u64,
    exponent: i64,
}

impl<'t> Decimal<'t> {
    fn read(text: &'t [u8]) -> Option<Self> {
        let mut decimal = Self { digits: &[], digit_count: 0, mantissa: 0, exponent: 0 };
        let (mut any, mut point) = (false, false);
        let mut rest = text;
        let mut start = text;
        while let [byte, tail @ ..] = rest {
            match byte {
                b'0'..=b'9' => {
                    any = true;
                    decimal.exponent -= i64::from(point);
                    if decimal.digit_count > 0 || *byte != b'0' {
                        if decimal.digit_count == 0 {
                            start = rest;
                        }
                        if decimal.digit_count < MANTISSA_DIGITS {
                            decimal.mantissa = decimal.mantissa * 10 + u64::from(*byte - b'0');
                        }
                        decimal.digit_count += 1;
                    }
                }
                b'.' if !point => point = true,
                _ => break,
            }
            rest = tail;
        }
        decimal.digits = start.get(..start.len() - rest.len())?;
        match rest {
            [] if any => {}
            [b'e' | b'E', exponent @ ..] if any => decimal.exponent += read_exponent(exponent)?,
            _ => return None,
        }
        Some(decimal)
    }

    fn nearest(&self) -> f64 {
        // The number is at least 0.1 and less than 1 times 10 to this.
        let magnitude = self.exponent.saturating_add_unsigned(self.digit_count as u64);
        if self.digit_count == 0 || magnitude < -330 {
            return 0.0;
        }
        if magnitude > 310 {
            return f64::INFINITY;
        }
        let dropped = self.digit_count.saturating_sub(MANTISSA_DIGITS);
        // What the mantissa is to be multiplied with; it lies between -1,100 and 310.
        let exponent = (self.exponent + dropped as i64) as i32;
        let exact = dropped == 0;
        if exact && self.mantissa <= 1 << f64::MANTISSA_DIGITS && exponent.unsigned_abs() <= 22 {
            // Both are f64s without error, so the result has one rounding: Clinger's fast path.
            let power = (0..exponent.unsigned_abs()).fold(1.0, |power, _| power * 10.0);
            let mantissa = self.mantissa as f64;
            return if exponent < 0 { mantissa / power } else { mantissa * power };
        }
        approximate(self.mantissa, exponent, exact).unwrap_or_else(|| self.exact())
    }

    /// By long division of whole numbers.
    fn exact(&self) -> f64 {
        let mut numerator = Vec::new();
        let mut exponent = self.exponent;
        let digits = self.digits.iter().filter(|byte| **byte != b'.');
        for digit in digits.clone().take(EXACT_DIGITS) {
            multiply(&mut numerator, 10, u32::from(*digit - b'0'));
        }
        if self.digit_count > EXACT_DIGITS {
            // No tie has so many digits: what is left matters only in that it is there.
            exponent += (self.digit_count - EXACT_DIGITS) as i64;
            if digits.clone().skip(EXACT_DIGITS).any(|digit| *digit != b'0') {
                multiply(&mut numerator, 10, 1);
                exponent -= 1;
            }
        }
        let mut denominator = [1].into();
        // 10 is 5 times 2, and powers of 2 go into the exponent.
        let fives = if exponent < 0 { &mut denominator } else { &mut numerator };
        for _ in 0..exponent.unsigned_abs() {
            multiply(fives, 5, 0);
        }
        let lift = 64 + bit_length(&denominator) - bit_length(&numerator);
        let mut binary_exponent = exponent as i32 - lift;
        if lift < 0 {
            shift_left(&mut denominator, lift.unsigned_abs());
        } else {
            shift_left(&mut numerator, lift.unsigned_abs());
        }
        // The quotient has 64 or 65 bits.
        shift_left(&mut denominator, 64);
        let mut quotient = 0_u128;
        for _ in 0..65 {
            quotient <<= 1;
            if subtract(&mut numerator, &denominator) {
                quotient |= 1;
            }
            halve(&mut denominator);
        }
        let mut sticky = numerator.iter().any(|limb| *limb != 0);
        if quotient >> 64 != 0 {
            sticky |= quotient & 1 == 1;
            quotient >>= 1;
            binary_exponent += 1;
        }
        round(quotient as u64, binary_exponent, sticky)
    }
}

fn read_exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // Beyond any text's length nothing matters any more.
    let exponent = digits.iter().fold(0_i64, |sum, digit| (sum * 10 + i64::from(digit - b'0')).min(1 << 40));
    Some(if negative { -exponent } else { exponent })
}

/// The f64 nearest to `mantissa` times 10 to the `exponent`, or `None` where 64 bits do not tell which it is: W. D. Clinger, How to
/// Read Floating Point Numbers Accurately (1990).
fn approximate(mantissa: u64, exponent: i32, exact: bool) -> Option<f64> {
    let (large, small) = (exponent.div_euclid(16), exponent.rem_euclid(16));
    let large_power = *LARGE_POWERS.get(usize::try_from(large + LARGE_POWERS_BELOW).ok()?)?;
    let large_exponent = ((large * 16 * 217_706) >> 16) - 63;
    let small_power = (0..small).fold(1_u64, |power, _| power * 10);
    let mut significand = mantissa << mantissa.leading_zeros();
    let mut binary_exponent = large_exponent - mantissa.leading_zeros() as i32;
    for factor in [small_power, large_power] {
        let zeros = factor.leading_zeros();
        let product = u128::from(significand) * u128::from(factor << zeros);
        let spare = product.leading_zeros();
        significand = ((product << spare) >> 64) as u64;
        binary_exponent += 64 - (zeros + spare) as i32;
    }
    // Two truncations and a rounded power; digits that were dropped are less than 1 in 10 to the 18.
    let error = if exact { 8 } else { 48 };
    let rest = significand & 0x7ff;
    if rest.abs_diff(0x400) <= error || binary_exponent < -1_080 {
        return None;
    }
    Some(round(significand, binary_exponent, true))
}

/// The f64 nearest to `significand`, whose highest bit is set, times 2 to the `exponent`; a bit more than that if `sticky`.
fn round(significand: u64, exponent: i32, sticky: bool) -> f64 {
    let exponent = exponent + 63;
    let below_normal = (-1_022 - exponent).max(0).unsigned_abs();
    let dropped = 11 + below_normal;
    if dropped > 64 {
        return 0.0;
    }
    let kept = significand.checked_shr(dropped).unwrap_or(0);
    let rest = significand << (64 - dropped);
    let up = rest > 1 << 63 || rest == 1 << 63 && (sticky || kept & 1 == 1);
    // A carry goes into the exponent, as it should.
    let biased = (exponent + 1_023).max(1).unsigned_abs();
    let bits = (u64::from(biased - 1) << 52) + kept + u64::from(up);
    f64::from_bits(bits.min(f64::INFINITY.to_bits()))
}

/// Whole numbers are limbs of 32 bits, least significant first, without zeros at their end.
fn multiply(number: &mut Vec<u32>, factor: u32, addend: u32) {
    let mut carry = u64::from(addend);
    for limb in number.iter_mut() {
        carry += u64::from(*limb) * u64::from(factor);
        *limb = carry as u32;
        carry >>= 32;
    }
    if carry != 0 {
        number.push(carry as u32);
    }
}

fn bit_length(number: &[u32]) -> i32 {
    number.len() as i32 * 32 - number.last().map_or(0, |limb| limb.leading_zeros() as i32)
}

fn shift_left(number: &mut Vec<u32>, bits: u32) {
    multiply(number, 1 << (bits % 32), 0);
    number.splice(0..0, core::iter::repeat_n(0, bits as usize / 32));
}

fn halve(number: &mut Vec<u32>) {
    let mut carry = 0;
    for limb in number.iter_mut().rev() {
        let low = *limb << 31;
        *limb = *limb >> 1 | carry;
        carry = low;
    }
    if number.last() == Some(&0) {
        number.pop();
    }
}

/// Takes a number from another that is no less; whether it was.
fn subtract(from: &mut Vec<u32>, number: &[u32]) -> bool {
    let less = from.len().cmp(&number.len()).then_with(|| from.iter().rev().cmp(number.iter().rev())).is_lt();
    if less {
        return false;
    }
    let mut borrow = false;
    let subtrahends = number.iter().copied().chain(core::iter::repeat(0));
    for (limb, subtrahend) in from.iter_mut().zip(subtrahends) {
        let (first, under) = limb.overflowing_sub(subtrahend);
        let (second, under_again) = first.overflowing_sub(u32::from(borrow));
        *limb = second;
        borrow = under || under_again;
    }
    while from.last() == Some(&0) {
        from.pop();
    }
    true
}

/// Digits that surely fit 64 bits.
const MANTISSA_DIGITS: usize = 19;
/// A value halfway between two f64s has at most 767 digits.
const EXACT_DIGITS: usize = 768;
const LARGE_POWERS_BELOW: i32 = 22;
/// 10 to the 16 times (index - [`LARGE_POWERS_BELOW`]), as 64 rounded bits, the highest set.
#[rustfmt::skip]
const LARGE_POWERS: [u64; 42] = [
    0xcd42_a113_46f3_4f7d, 0xe3e2_7a44_4d8d_98b8, 0xfd00_b897_4782_38d1, 0x8c71_dcd9_ba0b_4926,
    0x9bec_ce62_836a_c577, 0xad1c_8eab_5ee4_3b67, 0xc031_4325_637a_193a, 0xd560_5fcd_cf32_e1d7,
    0xece5_3cec_4a31_4ebe, 0x8380_dea9_3da4_bc60, 0x91ff_8377_5423_cc06, 0xa217_27db_38cb_0030,
    0xb3f4_e093_db73_a093, 0xc7ca_ba6e_7c53_82c9, 0xddd0_467c_64bc_e4a1, 0xf643_35bc_f065_d37d,
    0x88b4_02f7_fd75_539b, 0x97c5_60ba_6b09_19a6, 0xa87f_ea27_a539_e9a5, 0xbb12_7c53_b17e_c159,
    0xcfb1_1ead_4539_94ba, 0xe695_94be_c44d_e15b, 0x8000_0000_0000_0000, 0x8e1b_c9bf_0400_0000,
    0x9dc5_ada8_2b70_b59e, 0xaf29_8d05_0e43_95d7, 0xc278_1f49_ffcf_a6d5, 0xd7e7_7a8f_87da_f7fc,
    0xefb3_ab16_c59b_14a3, 0x850f_adc0_9923_329e, 0x93ba_47c9_80e9_8ce0, 0xa402_b9c5_a8d3_a6e7,
    0xb616_a12b_7fe6_17aa, 0xca28_a291_859b_bf93, 0xe070_f78d_3927_556b, 0xf92e_0c35_3782_6146,
    0x8a52_96ff_e33c_c930, 0x9991_a6f3_d6bf_1766, 0xaa7e_ebfb_9df9_de8e, 0xbd49_d14a_a79d_bc82,
    0xd226_fc19_5c6a_2f8c, 0xe950_df20_247c_83fd,
];

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{format, string::String};
    use proptest::prelude::*;

    /// The standard library is right.
    fn check(text: &str) {
        let expected = text.parse::<f64>().ok().map(f64::to_bits);
        assert_eq!(parse_f64(text).map(f64::to_bits), expected, "{text}");
    }

    #[test]
    fn ends_ties_and_what_is_no_number_are_as_the_standard_library_has_them() {
        for text in [
            "0",
            "-0",
            "00.10",
            ".5",
            "5.",
            "+1",
            "1e",
            "e1",
            ".",
            "",
            "-",
            "1e+",
            "1.2.3",
            "1_0",
            "0x1",
            " 1",
            "nan",
            "-nan",
            "Inf",
            "-infinity",
            "infinit",
            "1e308",
            "1.7976931348623157e308",
            "1.7976931348623158e308",
            "1.7976931348623159e308",
            "1e309",
            "1e99999999999999999999",
            "1e-99999999999999999999",
            "0e99999999999999999999",
            "5e-324",
            "2.4703282292062327e-324",
            "2.4703282292062328e-324",
            "2.2250738585072014e-308",
            "2.2250738585072011e-308",
            "9007199254740993",
            "9007199254740992.5",
            "9007199254740993.00000000000000000000000000000000001",
            "18446744073709551616",
            "1e22",
            "1e23",
            "123456789012345678e-5",
            "0.000000000000000000000000000000000000000000000000000000000000000000000000000001e78",
            "6929495644600919.5",
            "3.9999999999999996e0",
            "8.5e-320",
        ] {
            check(text);
        }
        // Halfway between 0 and the least f64, 2^-1075, with all its digits: a tie, which is even; and a bit less and more. Half
        // of a decimal fraction is 5 times its digits, one place further.
        let least = format!("{:.1074}", f64::from_bits(1));
        let mut digits: Vec<u8> = core::iter::once(0).chain(least.bytes().skip(2).map(|digit| digit - b'0')).collect();
        let mut carry = 0;
        for digit in digits.iter_mut().rev() {
            let product = *digit * 5 + carry;
            *digit = product % 10;
            carry = product / 10;
        }
        let tie: String = digits.iter().map(|digit| char::from(b'0' + digit)).collect();
        assert_eq!(parse_f64(&format!("0.{tie}")), Some(0.0));
        assert_eq!(parse_f64(&format!("0.{tie}1")), Some(f64::from_bits(1)));
        for text in [least, format!("0.{tie}"), format!("0.{tie}1"), format!("0.{}4", tie.trim_end_matches('5'))] {
            check(&text);
        }
        check(&format!("{}1", "9".repeat(2000)));
        check(&format!("{}e-1999", "1".repeat(2000)));
        check(&format!("0.{}1", "0".repeat(2000)));
    }

    #[test]
    fn every_power_of_ten_is_read() {
        for exponent in -400..400 {
            for digits in ["1", "9999999999999999999999", "4503599627370497.5", "17", "12345678901234567"] {
                check(&format!("{digits}e{exponent}"));
            }
        }
    }

    /// Halfway between an f64 and the next, digit by digit.
    fn halfway(bits: u64) -> String {
        let float = f64::from_bits(bits);
        let next = f64::from_bits(bits + 1);
        // Both are whole: so is their mean, if they are multiples of 2.
        format!("{}", float as u128 + (next as u128 - float as u128) / 2)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn digits_of_any_f64(bits in any::<u64>()) {
            let float = f64::from_bits(bits & !(1 << 63));
            prop_assume!(float.is_finite());
            for text in [format!("{float:e}"), format!("{float:.20e}"), format!("{float}"), format!("{float:.5e}")] {
                check(&text);
            }
        }

        #[test]
        fn any_digits_and_exponent(digits in "[0-9]{1,25}", fraction in "[0-9]{0,25}", exponent in -360_i32..330) {
            check(&format!("{digits}.{fraction}e{exponent}"));
        }

        #[test]
        fn ties(bits in 0x4350_0000_0000_0000_u64..0x47d0_0000_0000_0000) {
            let tie = halfway(bits);
            for text in [tie.clone(), format!("{tie}.0000000000000000000001"), format!("{tie}e-40"), format!("{tie}000e-3")] {
                check(&text);
            }
        }
    }
}
