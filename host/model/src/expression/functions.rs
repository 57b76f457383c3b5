//! The functions of expressions: what each takes, gives and means. `mezze functions` and docs/TRANSFORMS.md show this table, and
//! a test computes every example.

use mezze_core::Function as F;

/// A function or operator, as its users read of it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct FunctionEntry {
    /// Its name; of an operator how it is written.
    pub name: &'static str,
    /// What it belongs to, for the order of the page.
    pub group: &'static str,
    /// What it takes and gives.
    pub signature: &'static str,
    /// What it does.
    pub about: &'static str,
    /// When the result is null, beyond "where an argument is null".
    pub nulls: &'static str,
    /// Expressions and their results.
    pub examples: &'static [(&'static str, &'static str)],
    /// How calls are compiled; none for what is written as an operator.
    pub(super) overloads: &'static [Overload],
}

/// One way to call a function.
#[derive(Clone, Copy, Debug)]
pub(super) struct Overload {
    pub(super) takes: &'static [Takes],
    pub(super) gives: Gives,
    pub(super) does: F,
}

/// What an argument has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    Int,
    Float,
    Text,
    Time,
    /// Of any type whose values are bytes.
    AnyBytes,
    /// A list of integers.
    Ints,
    /// A list of floats.
    Floats,
    /// A list of integers or floats.
    Numbers,
    /// A list of texts or bytes.
    Texts,
    /// A list of anything.
    List,
    /// The name of a unit of time, written out.
    Unit,
    /// The name of a unit of time with a fixed length, written out; it goes in as nanoseconds.
    FixedUnit,
    /// The name of a part of an instant, written out.
    Part,
}

/// What a function gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gives {
    Bool,
    Int,
    Float,
    Text,
    Time,
    Ints,
}

const fn overload(takes: &'static [Takes], gives: Gives, does: F) -> Overload {
    Overload { takes, gives, does }
}

macro_rules! entries {
    ($($group:literal { $($name:literal $signature:literal $about:literal $nulls:literal
        [$($example:literal => $result:literal),* $(,)?]
        $(($($takes:ident),*) -> $gives:ident = $does:ident;)* )* })*) => {
        &[$($(FunctionEntry {
            name: $name,
            group: $group,
            signature: $signature,
            about: $about,
            nulls: $nulls,
            examples: &[$(($example, $result)),*],
            overloads: &[$(overload(&[$(Takes::$takes),*], Gives::$gives, F::$does)),*],
        },)*)*]
    };
}

/// All functions and operators, group by group.
pub static FUNCTIONS: &[FunctionEntry] = entries! {
    "Arithmetic" {
        "+" "int + int -> int64, number + number -> float64, unix_timestamp + interval -> unix_timestamp"
            "The sum. An interval is `INTERVAL '1 day'`; months and years keep the day of the month, or take the month's last."
            "a sum beyond int64, or beyond the range of instants"
            ["1 + 2" => "3", "1 + 0.5" => "1.5", "9223372036854775807 + 1" => "null",
             "TIMESTAMP '2024-01-31T00:00:00Z' + INTERVAL '1 month'" => "2024-02-29T00:00:00Z"]
        "-" "int - int -> int64, number - number -> float64, unix_timestamp - interval -> unix_timestamp"
            "The difference, and the opposite of one number. For the time between instants see `elapsed` and `date_diff`."
            "beyond int64, or beyond the range of instants"
            ["1 - 2" => "-1", "-(2.5)" => "-2.5", "-9223372036854775807 - 2" => "null",
             "TIMESTAMP '2024-03-01T00:00:00Z' - INTERVAL '36 hours'" => "2024-02-28T12:00:00Z"]
        "*" "int * int -> int64, number * number -> float64" "The product." "beyond int64"
            ["3 * 4" => "12", "0.5 * 4" => "2.0", "4611686018427387904 * 2" => "null"]
        "/" "number / number -> float64"
            "The quotient, always a float: integers are not cut. Division by zero gives an infinity or NaN, as floats do."
            "" ["7 / 2" => "3.5", "1 / 0" => "Infinity", "-1 / 0" => "-Infinity", "0 / 0" => "NaN"]
        "//" "int // int -> int64" "The quotient, cut toward zero." "division by zero, and the one quotient beyond int64"
            ["7 // 2" => "3", "-7 // 2" => "-3", "1 // 0" => "null"]
        "%" "int % int -> int64, number % number -> float64" "What the division leaves, with the sign of the first."
            "an integer % 0"
            ["7 % 3" => "1", "-7 % 3" => "-1", "7.5 % 2" => "1.5", "1 % 0" => "null", "1.0 % 0" => "NaN"]
        "abs" "abs(int) -> int64, abs(float) -> float64" "The number without its sign." "the least int64"
            ["abs(-3)" => "3", "abs(-2.5)" => "2.5"]
            (Int) -> Int = AbsInt; (Float) -> Float = AbsFloat;
        "sign" "sign(int) -> int64, sign(float) -> float64" "-1, 0 or 1; of NaN, NaN." ""
            ["sign(-3)" => "-1", "sign(0.0)" => "0.0", "sign(2.5)" => "1.0"]
            (Int) -> Int = SignInt; (Float) -> Float = SignFloat;
    }
    "Comparison and logic" {
        "= <> < <= > >=" "any = any -> bool"
            "Compares two values of one type, or two numbers. Text and bytes compare byte by byte. NaN equals NaN and is above all other numbers, -0 equals 0. A text that is written out counts as what it is compared with."
            "" ["1 < 2.5" => "true", "'a' >= 'b'" => "false", "CAST('nan' AS float64) = CAST('nan' AS float64)" => "true", "1 = NULL" => "null",
                "TIMESTAMP '2024-01-01T00:00:00Z' < '2024-06-01'" => "true"]
        "AND OR NOT" "bool AND bool -> bool"
            "Three-valued logic: what decides, decides, even where the other side is null." "neither side decides and one is null"
            ["true AND NULL" => "null", "false AND NULL" => "false", "true OR NULL" => "true", "NOT false" => "true"]
        "IS NULL" "any IS [NOT] NULL -> bool" "Whether there is no value. Never null." "never"
            ["NULL IS NULL" => "true", "1 IS NOT NULL" => "true"]
        "IS TRUE" "bool IS [NOT] TRUE, bool IS [NOT] FALSE -> bool" "Whether it is so; null is not. Never null." "never"
            ["NULL IS TRUE" => "false", "NULL IS NOT FALSE" => "true"]
        "IS DISTINCT FROM" "any IS [NOT] DISTINCT FROM any -> bool" "Comparison in which null is a value like any other." "never"
            ["NULL IS DISTINCT FROM 1" => "true", "NULL IS NOT DISTINCT FROM NULL" => "true"]
        "BETWEEN" "any [NOT] BETWEEN any AND any -> bool" "Whether it is neither below the first nor above the second." ""
            ["2 BETWEEN 1 AND 3" => "true", "0.5 NOT BETWEEN 1 AND 3" => "true"]
        "IN" "any [NOT] IN (any, ...) -> bool" "Whether it equals one of them." "it equals none, and one of them is null"
            ["2 IN (1, 2)" => "true", "3 IN (1, NULL)" => "null", "'x' NOT IN ('a', 'b')" => "true"]
        "LIKE" "string [NOT] LIKE string -> bool, and ILIKE" "Whether the text is as the pattern says: `%` stands for any characters, `_` for one. The pattern is written out. ILIKE does not tell upper from lower case." ""
            ["'mezze' LIKE 'm%z_'" => "true", "'Mezze' LIKE 'm%'" => "false", "'Mezze' ILIKE 'm%'" => "true"]
    }
    "Choice" {
        "CASE" "CASE WHEN bool THEN any ... [ELSE any] END -> any, and CASE any WHEN any THEN any ... END"
            "The result of the first condition that is true, otherwise that of ELSE." "no condition is true and there is no ELSE"
            ["CASE WHEN 2 > 1 THEN 'more' ELSE 'less' END" => "\"more\"", "CASE 3 WHEN 1 THEN 10 WHEN 2 THEN 20 END" => "null"]
        "coalesce" "coalesce(any, ...) -> any" "The first that is not null." "all are null" ["coalesce(NULL, 2, 3)" => "2"]
        "nullif" "nullif(any, any) -> any" "The first, unless the two are equal." "they are equal"
            ["nullif(0, 0)" => "null", "nullif(1, 0)" => "1"]
        "greatest" "greatest(any, ...) -> any" "The greatest; nulls do not count." "all are null"
            ["greatest(1, 3, 2)" => "3", "greatest(NULL, 1.5)" => "1.5", "greatest('a', 'b')" => "\"b\""]
        "least" "least(any, ...) -> any" "The least; nulls do not count." "all are null"
            ["least(1, 3, 2)" => "1", "least(NULL, 2)" => "2"]
        "clamp" "clamp(number, number, number) -> number" "The first, brought into the range of the others." ""
            ["clamp(15, 0, 10)" => "10", "clamp(0.5, 1, 2)" => "1.0"]
        "lookup" "lookup(key, [key, ...], [any, ...] [, any]) -> any"
            "The value that stands at the key's place, or the last argument. Keys are integers or texts, both lists are written out." "the key is not there and there is no last argument"
            ["lookup('b', ['a', 'b'], [1.5, 2.5])" => "2.5", "lookup(7, [1, 2], ['x', 'y'], 'other')" => "\"other\""]
    }
    "Types" {
        "CAST" "CAST(any AS type) -> type, or any::type"
            "The value in another type. Floats to integers are cut toward zero; integers and instants are seconds since 1970 to each other; instants are read and written in RFC 3339; a text is read without the blanks around it."
            "the value has no counterpart: a text that is no number, a number beyond the type, NaN as an integer"
            ["CAST(2.9 AS int64)" => "2", "CAST(-2.9 AS int64)" => "-2", "CAST('12' AS int64)" => "12", "CAST('x' AS int64)" => "null", "CAST(3000000000 AS int32)" => "null",
             "CAST(1.5 AS string)" => "\"1.5\"", "CAST(0.1 AS float32)" => "0.10000000149011612", "'2024-02-29T12:00:00+02:00'::unix_timestamp" => "2024-02-29T10:00:00Z",
             "CAST(TIMESTAMP '1970-01-02T00:00:00Z' AS int64)" => "86400", "CAST(true AS int64)" => "1", "CAST('yes' AS bool)" => "true",
             "CAST('12.75' AS decimal)::int64" => "12", "CAST('A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11' AS uuid)::string" => "\"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11\"",
             "CAST(CAST('2024-01-01T00:00:00+02:00' AS zoned_timestamp) AS string)" => "\"2024-01-01T00:00:00+02:00\""]
    }
    "Text" {
        "||" "string || string -> string" "The one behind the other." "a result of more than 65,536 bytes" ["'mez' || 'ze'" => "\"mezze\""]
        "concat" "concat(string, ...) -> string" "All of them, one behind the other; nulls are left out." "a result of more than 65,536 bytes"
            ["concat('a', NULL, 'b')" => "\"ab\""]
        "lower" "lower(string) -> string" "In lower case, by Unicode." "" ["lower('ÄB')" => "\"äb\""] (Text) -> Text = Lower;
        "upper" "upper(string) -> string" "In upper case, by Unicode." "" ["upper('straße')" => "\"STRASSE\""] (Text) -> Text = Upper;
        "length" "length(string) -> int64" "Its characters." "" ["length('größe')" => "5"] (Text) -> Int = Length;
        "octet_length" "octet_length(string or bytes) -> int64" "Its bytes." "" ["octet_length('größe')" => "7"] (AnyBytes) -> Int = ByteLength;
        "trim" "trim(string [, string]) -> string" "Without blanks, or without the characters given, at both ends." ""
            ["trim('  a b ')" => "\"a b\"", "trim('xxaxx', 'x')" => "\"a\""]
        "ltrim" "ltrim(string [, string]) -> string" "The same at the begin." "" ["ltrim('  a ')" => "\"a \""]
        "rtrim" "rtrim(string [, string]) -> string" "The same at the end." "" ["rtrim(' a  ')" => "\" a\""]
        "substr" "substr(string, first [, count]) -> string" "Characters from number `first` on, 1 being the first. What of the window lies before the text counts too." "a count below 0"
            ["substr('mezze', 2, 3)" => "\"ezz\"", "substr('mezze', 4)" => "\"ze\"", "substr('mezze', 0, 2)" => "\"m\""]
            (Text, Int, Int) -> Text = Substring;
        "left" "left(string, int) -> string" "The first characters; with a number below 0, all but the last so many." ""
            ["left('mezze', 2)" => "\"me\"", "left('mezze', -2)" => "\"mez\""] (Text, Int) -> Text = Left;
        "right" "right(string, int) -> string" "The last characters; with a number below 0, all but the first so many." ""
            ["right('mezze', 2)" => "\"ze\"", "right('mezze', -2)" => "\"zze\""] (Text, Int) -> Text = Right;
        "replace" "replace(string, what, with) -> string" "With `with` wherever `what` stands." "a result of more than 65,536 bytes"
            ["replace('a-b-c', '-', '+')" => "\"a+b+c\""] (Text, Text, Text) -> Text = Replace;
        "starts_with" "starts_with(string, string) -> bool" "Whether it begins so." "" ["starts_with('mezze', 'me')" => "true"]
            (Text, Text) -> Bool = StartsWith;
        "ends_with" "ends_with(string, string) -> bool" "Whether it ends so." "" ["ends_with('mezze', 'zz')" => "false"]
            (Text, Text) -> Bool = EndsWith;
        "contains" "contains(string, string) -> bool" "Whether it is in there." "" ["contains('mezze', 'zz')" => "true"]
            (Text, Text) -> Bool = Contains;
        "strpos" "strpos(string, string) -> int64, or POSITION(string IN string)" "The number of the first character where it stands; 0 where it does not." ""
            ["strpos('mezze', 'z')" => "3", "strpos('mezze', 'x')" => "0"] (Text, Text) -> Int = Position;
        "lpad" "lpad(string, length [, fill]) -> string" "So many characters: filled up at the begin, or cut at the end." "a length above 65,536"
            ["lpad('7', 3, '0')" => "\"007\"", "lpad('mezze', 2, ' ')" => "\"me\""] (Text, Int, Text) -> Text = PadStart;
        "rpad" "rpad(string, length [, fill]) -> string" "So many characters: filled up at the end, or cut." "a length above 65,536"
            ["rpad('7', 3, '0')" => "\"700\""] (Text, Int, Text) -> Text = PadEnd;
        "split_part" "split_part(string, separator, number) -> string" "The part of this number between separators, from 1, or from the end below 0; empty where there is none." "number 0"
            ["split_part('a.b.c', '.', 2)" => "\"b\"", "split_part('a.b.c', '.', -1)" => "\"c\"", "split_part('a', '.', 2)" => "\"\""] (Text, Text, Int) -> Text = SplitPart;
        "reverse" "reverse(string) -> string" "The characters in the reverse order." "" ["reverse('abc')" => "\"cba\""] (Text) -> Text = Reverse;
    }
    "Time" {
        "now" "now() -> unix_timestamp" "The time of the request; in training, of the entity row." "" []
        "date_part" "date_part(part, unix_timestamp) -> int64, or EXTRACT(part FROM unix_timestamp)"
            "In UTC: year, quarter, month, week and isoyear (ISO 8601), day, dow (Sunday is 0), isodow (Monday is 1), doy, hour, minute, second, and millisecond, microsecond, nanosecond of the minute. `epoch` is seconds as a float." ""
            ["date_part('dow', TIMESTAMP '2024-02-29T00:00:00Z')" => "4", "EXTRACT(week FROM TIMESTAMP '2021-01-03T00:00:00Z')" => "53",
             "date_part('hour', TIMESTAMP '2024-02-29T23:30:00Z' AT TIME ZONE '+02:00')" => "1", "date_part('doy', TIMESTAMP '2024-12-31T00:00:00Z')" => "366"]
            (Part, Time) -> Int = DatePart;
        "date_trunc" "date_trunc(unit, unix_timestamp) -> unix_timestamp" "The begin of its year, quarter, month, week (Monday), day, hour, minute, second, millisecond or microsecond." "before the range of instants"
            ["date_trunc('month', TIMESTAMP '2024-02-29T12:00:00Z')" => "2024-02-01T00:00:00Z", "date_trunc('week', TIMESTAMP '2024-03-03T12:00:00Z')" => "2024-02-26T00:00:00Z"]
            (Unit, Time) -> Time = DateTrunc;
        "date_diff" "date_diff(unit, from, to) -> int64" "How many boundaries of the unit lie between two instants." ""
            ["date_diff('day', TIMESTAMP '2024-02-28T23:00:00Z', TIMESTAMP '2024-03-01T01:00:00Z')" => "2", "date_diff('month', TIMESTAMP '2024-03-01T00:00:00Z', TIMESTAMP '2024-01-31T00:00:00Z')" => "-2"]
            (Unit, Time, Time) -> Int = DateDiff;
        "elapsed" "elapsed(unit, from, to) -> float64" "The time between two instants in weeks, days, hours, minutes, seconds, milliseconds, microseconds or nanoseconds." ""
            ["elapsed('day', TIMESTAMP '2024-02-28T12:00:00Z', TIMESTAMP '2024-03-01T00:00:00Z')" => "1.5"]
            (FixedUnit, Time, Time) -> Float = Elapsed;
        "AT TIME ZONE" "unix_timestamp AT TIME ZONE '+02:00' -> unix_timestamp" "The time that a clock at this offset shows, for `date_part` and `date_trunc`. Offsets are fixed and written out; there are no zones with summer time." "beyond the range of instants"
            ["date_trunc('day', TIMESTAMP '2024-02-29T23:30:00Z' AT TIME ZONE '+02:00')" => "2024-03-01T00:00:00Z"]
    }
    "Math" {
        "ceil" "ceil(float) -> float64" "The next whole number above." "" ["ceil(1.2)" => "2.0"] (Float) -> Float = Ceil;
        "floor" "floor(float) -> float64" "The next whole number below." "" ["floor(-1.2)" => "-2.0"] (Float) -> Float = Floor;
        "trunc" "trunc(float) -> float64" "Cut toward zero." "" ["trunc(-1.8)" => "-1.0"] (Float) -> Float = Trunc;
        "round" "round(float [, places]) -> float64" "To so many decimal places, halves away from zero; below 0, before the point." ""
            ["round(2.5)" => "3.0", "round(-1.25, 1)" => "-1.3", "round(1234, -2)" => "1200.0"] (Float, Int) -> Float = Round;
        "sqrt" "sqrt(float) -> float64" "The square root; NaN below 0." "" ["sqrt(2)" => "1.4142135623730951"] (Float) -> Float = Sqrt;
        "cbrt" "cbrt(float) -> float64" "The cube root." "" ["cbrt(-8)" => "-2.0"] (Float) -> Float = Cbrt;
        "exp" "exp(float) -> float64" "e to this power." "" ["exp(1)" => "2.7182818284590455"] (Float) -> Float = Exp;
        "ln" "ln(float) -> float64" "The natural logarithm; NaN below 0, -Infinity of 0." "" ["ln(1)" => "0.0", "ln(0)" => "-Infinity"] (Float) -> Float = Ln;
        "log2" "log2(float) -> float64" "The logarithm to base 2." "" ["log2(8)" => "3.0"] (Float) -> Float = Log2;
        "log10" "log10(float) -> float64" "The logarithm to base 10." "" ["log10(1000)" => "3.0"] (Float) -> Float = Log10;
        "power" "power(float, float) -> float64" "The first to the power of the second." "" ["power(2, 10)" => "1024.0"] (Float, Float) -> Float = Power;
        "pi" "pi() -> float64" "Half a turn in radians." "" ["pi()" => "3.141592653589793"]
        "degrees" "degrees(float) -> float64" "Radians in degrees." "" ["degrees(pi())" => "180.0"]
        "radians" "radians(float) -> float64" "Degrees in radians." "" ["radians(180)" => "3.141592653589793"]
        "sin" "sin(float) -> float64" "The sine of radians." "" ["sin(0)" => "0.0"] (Float) -> Float = Sin;
        "cos" "cos(float) -> float64" "The cosine of radians." "" ["cos(0)" => "1.0"] (Float) -> Float = Cos;
        "tan" "tan(float) -> float64" "The tangent of radians." "" ["tan(0)" => "0.0"] (Float) -> Float = Tan;
        "asin" "asin(float) -> float64" "The arc sine." "" ["asin(1)" => "1.5707963267948966"] (Float) -> Float = Asin;
        "acos" "acos(float) -> float64" "The arc cosine." "" ["acos(1)" => "0.0"] (Float) -> Float = Acos;
        "atan" "atan(float) -> float64" "The arc tangent." "" ["atan(1)" => "0.7853981633974483"] (Float) -> Float = Atan;
        "atan2" "atan2(y, x) -> float64" "The angle of the point (x, y)." "" ["atan2(1, 1)" => "0.7853981633974483"] (Float, Float) -> Float = Atan2;
        "tanh" "tanh(float) -> float64" "The hyperbolic tangent." "" ["tanh(0)" => "0.0"] (Float) -> Float = Tanh;
        "sigmoid" "sigmoid(float) -> float64" "1 / (1 + exp(-x))." "" ["sigmoid(0)" => "0.5"] (Float) -> Float = Sigmoid;
        "is_nan" "is_nan(float) -> bool" "Whether it is NaN." "" ["is_nan(0 / 0)" => "true"] (Float) -> Bool = IsNan;
        "is_finite" "is_finite(float) -> bool" "Whether it is neither NaN nor infinite." "" ["is_finite(1 / 0)" => "false"] (Float) -> Bool = IsFinite;
        "haversine" "haversine(latitude, longitude, latitude, longitude) -> float64"
            "Kilometres between two points in degrees, along a sphere of the earth's mean radius, 6371.0088 km." ""
            ["round(haversine(52.52, 13.405, 48.8566, 2.3522), 3)" => "877.465"] (Float, Float, Float, Float) -> Float = Haversine;
    }
    "Buckets and hashes" {
        "width_bucket" "width_bucket(float, low, high, count) -> int64" "Which of `count` equal buckets from `low` to `high` it is in, from 1; 0 below them, `count + 1` from `high` on." "NaN, bounds that are equal or not finite, a count below 1"
            ["width_bucket(5.5, 0, 10, 5)" => "3", "width_bucket(-1, 0, 10, 5)" => "0", "width_bucket(10, 0, 10, 5)" => "6"]
            (Float, Float, Float, Int) -> Int = WidthBucket;
        "bucketize" "bucketize(float, [bound, ...]) -> int64" "How many of the bounds are not above it." "NaN"
            ["bucketize(25, [18, 30, 65])" => "1", "bucketize(18.0, [18, 30, 65])" => "1", "bucketize(3, [18, 30, 65])" => "0"]
            (Float, Numbers) -> Int = BucketizeFloat;
        "hash" "hash(any) -> int64" "xxh3-64: of a text its bytes, of a number its eight bytes, the least first. -0 hashes as 0." ""
            ["hash('mezze')" => "-8366388650984713311", "hash(42)" => "-3051478158665635896"]
            (Int) -> Int = HashInt; (Time) -> Int = HashInt; (Float) -> Int = HashFloat; (AnyBytes) -> Int = HashBytes;
        "hash_bucket" "hash_bucket(any, count) -> int64" "Which of `count` buckets its hash is in, from 0: the hash without sign, modulo the count." "a count below 1"
            ["hash_bucket('mezze', 100)" => "5", "hash_bucket('mezze', 0)" => "null"]
        "one_hot" "one_hot(any, [any, ...]) -> list<int64>" "For each of the values written out 1 where it is this one, otherwise 0; all 0 where it is none of them, or null." "never"
            ["one_hot('b', ['a', 'b', 'c'])" => "[0,1,0]", "one_hot(NULL, [1, 2])" => "[0,0]"]
            (Int, Ints) -> Ints = OneHotInt; (AnyBytes, Texts) -> Ints = OneHotBytes;
    }
    "Lists" {
        "[ ]" "[any, ...] -> list" "A list of values of one type." "" ["[1, 2]" => "[1,2]", "['a', NULL]" => "[\"a\",null]"]
        "list[n]" "list[int] -> element" "The element of this number, from 1; below 0, from the end." "there is no such element"
            ["[10, 20, 30][2]" => "20", "[10, 20][-1]" => "20", "[10][3]" => "null"]
        "list_length" "list_length(list) -> int64" "Its elements, nulls too." "" ["list_length([1, NULL])" => "2"] (List) -> Int = ListLength;
        "list_contains" "list_contains(list, any) -> bool" "Whether one of them is equal." ""
            ["list_contains(['a', 'b'], 'b')" => "true", "list_contains([1, 2], 3)" => "false"]
            (Ints, Int) -> Bool = ListContainsInt; (Floats, Float) -> Bool = ListContainsFloat; (Texts, AnyBytes) -> Bool = ListContainsBytes;
        "list_sum" "list_sum(list) -> int64 or float64" "The sum from the first to the last; nulls do not count." "no elements, or beyond int64"
            ["list_sum([1, NULL, 2])" => "3", "list_sum([0.5, 0.25])" => "0.75"] (Ints) -> Int = ListSumInt; (Floats) -> Float = ListSumFloat;
        "list_mean" "list_mean(list) -> float64" "The sum divided by the count; nulls do not count." "no elements" ["list_mean([1, 2])" => "1.5"]
            (Numbers) -> Float = ListMean;
        "list_min" "list_min(list) -> int64 or float64" "The least; nulls do not count." "no elements" ["list_min([3, 1, 2])" => "1"]
            (Ints) -> Int = ListMinInt; (Floats) -> Float = ListMinFloat;
        "list_max" "list_max(list) -> int64 or float64" "The greatest; nulls do not count." "no elements" ["list_max([3.5, 1])" => "3.5"]
            (Ints) -> Int = ListMaxInt; (Floats) -> Float = ListMaxFloat;
        "dot_product" "dot_product(list, list) -> float64" "The sum of the products, from the first to the last." "other lengths, or a null element"
            ["dot_product([1, 2], [3, 4])" => "11.0"] (Numbers, Numbers) -> Float = DotProduct;
        "cosine_similarity" "cosine_similarity(list, list) -> float64" "The dot product divided by both lengths; NaN of a list of zeros." "other lengths, or a null element"
            ["cosine_similarity([1, 0], [1, 1])" => "0.7071067811865475"] (Numbers, Numbers) -> Float = CosineSimilarity;
        "euclidean_distance" "euclidean_distance(list, list) -> float64" "The root of the sum of the squares of differences." "other lengths, or a null element"
            ["euclidean_distance([0, 0], [3, 4])" => "5.0"] (Numbers, Numbers) -> Float = EuclideanDistance;
    }
};

/// Other names of functions, as other databases have them.
pub(super) static ALIASES: &[(&str, &str)] = &[
    ("array_contains", "list_contains"),
    ("array_length", "list_length"),
    ("btrim", "trim"),
    ("cardinality", "list_length"),
    ("ceiling", "ceil"),
    ("char_length", "length"),
    ("character_length", "length"),
    ("current_timestamp", "now"),
    ("datediff", "date_diff"),
    ("ifnull", "coalesce"),
    ("inner_product", "dot_product"),
    ("list_avg", "list_mean"),
    ("list_cosine_similarity", "cosine_similarity"),
    ("list_distance", "euclidean_distance"),
    ("list_dot_product", "dot_product"),
    ("lcase", "lower"),
    ("len", "length"),
    ("mod", "%"),
    ("pow", "power"),
    ("substring", "substr"),
    ("ucase", "upper"),
];

/// Units of time and their codes; [`F::DateTrunc`] and [`F::DateDiff`] take the first eleven, [`F::DatePart`] all.
pub(super) static UNITS: [(&str, i64); 15] = [
    ("year", 0),
    ("quarter", 1),
    ("month", 2),
    ("week", 3),
    ("day", 4),
    ("hour", 5),
    ("minute", 6),
    ("second", 7),
    ("millisecond", 8),
    ("microsecond", 9),
    ("nanosecond", 10),
    ("dow", 11),
    ("isodow", 12),
    ("doy", 13),
    ("isoyear", 14),
];

/// Nanoseconds of the units with a fixed length.
pub(super) static FIXED_UNITS: [(&str, i64); 8] = [
    ("week", 7 * 86_400_000_000_000),
    ("day", 86_400_000_000_000),
    ("hour", 3_600_000_000_000),
    ("minute", 60_000_000_000),
    ("second", 1_000_000_000),
    ("millisecond", 1_000_000),
    ("microsecond", 1_000),
    ("nanosecond", 1),
];
