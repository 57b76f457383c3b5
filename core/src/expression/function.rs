//! The functions that steps can be of, and their codes in a manifest.

macro_rules! functions {
    ($($(#[$about:meta])* $name:ident = $code:literal, ($arguments:pat);)*) => {
        /// What a step does. Its meaning and its code belong to the expression set and never change.
        ///
        /// The first word says what it does, the last the lane of what it takes where several do the same. `kind` is the code
        /// of a list's element type ([`element_code`](Function::element_code)).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Function {
            $($(#[$about])* $name,)*
        }

        impl Function {
            /// Every function.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Its code in a manifest.
            pub const fn code(self) -> u8 {
                match self { $(Self::$name => $code,)* }
            }

            /// The function of a code.
            pub const fn of_code(code: u8) -> Option<Self> {
                Some(match code { $($code => Self::$name,)* _ => return None })
            }

            /// Whether it takes so many arguments.
            pub const fn takes(self, count: usize) -> bool {
                match self { $(Self::$name => matches!(count, $arguments),)* }
            }
        }
    };
}

functions! {
    /// `a + b`; null where the sum is no int64.
    AddInt = 1, (2);
    /// `a - b`.
    SubtractInt = 2, (2);
    /// `a * b`.
    MultiplyInt = 3, (2);
    /// `a / b` rounded toward zero.
    DivideInt = 4, (2);
    /// What is left of `a / b`, with the sign of `a`.
    RemainderInt = 5, (2);
    /// `-a`.
    NegateInt = 6, (1);
    /// `a` without its sign.
    AbsInt = 7, (1);
    /// -1, 0 or 1.
    SignInt = 8, (1);
    /// `a + b`.
    AddFloat = 9, (2);
    /// `a - b`.
    SubtractFloat = 10, (2);
    /// `a * b`.
    MultiplyFloat = 11, (2);
    /// `a / b`.
    DivideFloat = 12, (2);
    /// What is left of `a / b`, with the sign of `a`.
    RemainderFloat = 13, (2);
    /// `-a`.
    NegateFloat = 14, (1);
    /// `a` without its sign.
    AbsFloat = 15, (1);
    /// -1, 0, 1 or NaN.
    SignFloat = 16, (1);
    /// `a = b`.
    EqualInt = 17, (2);
    /// `a < b`.
    LessInt = 18, (2);
    /// `a <= b`.
    LessEqualInt = 19, (2);
    /// `a = b`; NaN equals NaN.
    EqualFloat = 20, (2);
    /// `a < b`; NaN is above all else.
    LessFloat = 21, (2);
    /// `a <= b`.
    LessEqualFloat = 22, (2);
    /// `a = b`, byte by byte.
    EqualBytes = 23, (2);
    /// `a < b`.
    LessBytes = 24, (2);
    /// `a <= b`.
    LessEqualBytes = 25, (2);
    /// `a AND b` of three values.
    And = 26, (2);
    /// `a OR b` of three values.
    Or = 27, (2);
    /// `NOT a`.
    Not = 28, (1);
    /// Whether there is no value; never null.
    IsNull = 29, (1);
    /// The second where the first is true, otherwise the third: of any lane.
    Select = 30, (3);
    /// The first, or the second where that is null.
    Coalesce = 31, (2);
    /// The greater of two; what is null does not count.
    GreatestInt = 32, (2);
    /// The lesser of two; what is null does not count.
    LeastInt = 33, (2);
    /// The greater of two.
    GreatestFloat = 34, (2);
    /// The lesser of two.
    LeastFloat = 35, (2);
    /// The greater of two.
    GreatestBytes = 36, (2);
    /// The lesser of two.
    LeastBytes = 37, (2);

    /// An integer as a float.
    IntToFloat = 38, (1);
    /// Toward zero; null beyond int64.
    FloatToInt = 39, (1);
    /// Null beyond int32.
    NarrowInt = 40, (1);
    /// The nearest float32.
    NarrowFloat = 41, (1);
    /// Decimal digits.
    IntToText = 42, (1);
    /// The shortest text that reads back the same.
    FloatToText = 43, (1);
    /// `true` or `false`.
    BoolToText = 44, (1);
    /// An integer's digits.
    TextToInt = 45, (1);
    /// A decimal number.
    TextToFloat = 46, (1);
    /// `true`, `false`, `t`, `f`, `yes`, `no`, `1`, `0`.
    TextToBool = 47, (1);
    /// Whether it is not zero.
    IntToBool = 48, (1);
    /// Whether it is not zero.
    FloatToBool = 49, (1);
    /// Seconds as an instant.
    IntToTime = 50, (1);
    /// Seconds as an instant.
    FloatToTime = 51, (1);
    /// Whole seconds of an instant.
    TimeToInt = 52, (1);
    /// Seconds of an instant.
    TimeToFloat = 53, (1);
    /// RFC 3339 in UTC.
    TimeToText = 54, (1);
    /// An instant in RFC 3339.
    TextToTime = 55, (1);
    /// Bytes that are text.
    BytesToText = 56, (1);
    /// Lower-case, hyphenated.
    UuidToText = 57, (1);
    /// A UUID in any usual form.
    TextToUuid = 58, (1);
    /// 16 bytes.
    BytesToUuid = 59, (1);
    /// A decimal number, as it stands.
    TextToDecimal = 60, (1);
    /// The integer part of a decimal number.
    DecimalToInt = 61, (1);
    /// An instant with its offset, in RFC 3339.
    ZonedToText = 62, (1);
    /// An instant and the offset that stands behind it.
    TextToZoned = 63, (1);
    /// The instant.
    ZonedToTime = 64, (1);
    /// The instant in UTC.
    TimeToZoned = 65, (1);

    /// `ceil(x)`.
    Ceil = 66, (1);
    /// `floor(x)`.
    Floor = 67, (1);
    /// `trunc(x)`.
    Trunc = 68, (1);
    /// To so many decimal places, halves away from zero.
    Round = 69, (2);
    /// The square root.
    Sqrt = 70, (1);
    /// The cube root.
    Cbrt = 71, (1);
    /// `e` to the power of x.
    Exp = 72, (1);
    /// The natural logarithm.
    Ln = 73, (1);
    /// The logarithm to base 2.
    Log2 = 74, (1);
    /// The logarithm to base 10.
    Log10 = 75, (1);
    /// `x` to the power of `y`.
    Power = 76, (2);
    /// Sine of radians.
    Sin = 77, (1);
    /// Cosine of radians.
    Cos = 78, (1);
    /// Tangent of radians.
    Tan = 79, (1);
    /// Arc sine.
    Asin = 80, (1);
    /// Arc cosine.
    Acos = 81, (1);
    /// Arc tangent.
    Atan = 82, (1);
    /// The angle of the point (x, y), given as y, x.
    Atan2 = 83, (2);
    /// Hyperbolic tangent.
    Tanh = 84, (1);
    /// `1 / (1 + exp(-x))`.
    Sigmoid = 85, (1);
    /// Whether it is NaN.
    IsNan = 86, (1);
    /// Whether it is neither NaN nor infinite.
    IsFinite = 87, (1);
    /// Kilometres between two points, each latitude and longitude in degrees.
    Haversine = 88, (4);
    /// The number of the bucket: x, low, high, count.
    WidthBucket = 89, (4);
    /// The hash of an integer.
    HashInt = 90, (1);
    /// The hash of a float.
    HashFloat = 91, (1);
    /// The hash of bytes.
    HashBytes = 92, (1);
    /// A hash to a bucket of so many.
    HashBucket = 93, (2);

    /// Upper case.
    Upper = 94, (1);
    /// Lower case.
    Lower = 95, (1);
    /// Without some characters at both ends: text, characters.
    Trim = 96, (2);
    /// At the begin.
    TrimStart = 97, (2);
    /// At the end.
    TrimEnd = 98, (2);
    /// Characters.
    Length = 99, (1);
    /// Bytes.
    ByteLength = 100, (1);
    /// Text, first character from 1, count of characters.
    Substring = 101, (3);
    /// The first characters.
    Left = 102, (2);
    /// The last characters.
    Right = 103, (2);
    /// All of them one behind the other; null where one is null.
    Concat = 104, (1..);
    /// Text, what to look for, what to put in its place.
    Replace = 105, (3);
    /// Text, how it begins.
    StartsWith = 106, (2);
    /// Text, how it ends.
    EndsWith = 107, (2);
    /// Text, what it holds.
    Contains = 108, (2);
    /// Text, what to look for: its first character from 1, 0 where it is not there.
    Position = 109, (2);
    /// Text, pattern.
    Like = 110, (2);
    /// Text, length, characters to put before it.
    PadStart = 111, (3);
    /// Text, length, characters to put behind it.
    PadEnd = 112, (3);
    /// Text, separator, number of the part.
    SplitPart = 113, (3);
    /// Characters in the reverse order.
    Reverse = 114, (1);

    /// Unit's code, instant.
    DatePart = 115, (2);
    /// Unit's code, instant.
    DateTrunc = 116, (2);
    /// Unit's code, instant, instant: boundaries between them.
    DateDiff = 117, (3);
    /// Instant, months.
    AddMonths = 118, (2);
    /// Nanoseconds of a unit, instant, instant: the time between them in that unit.
    Elapsed = 119, (3);

    /// Kind, list.
    ListLength = 120, (2);
    /// Kind, list, place from 1: an integer.
    ListElementInt = 121, (3);
    /// Kind, list, place: a float.
    ListElementFloat = 122, (3);
    /// Kind, list, place: bytes.
    ListElementBytes = 123, (3);
    /// Kind, list, value: an integer.
    ListContainsInt = 124, (3);
    /// Kind, list, value: a float.
    ListContainsFloat = 125, (3);
    /// Kind, list, value: bytes.
    ListContainsBytes = 126, (3);
    /// Kind, list.
    ListSumInt = 127, (2);
    /// Kind, list.
    ListSumFloat = 128, (2);
    /// Kind, list.
    ListMean = 129, (2);
    /// Kind, list.
    ListMinInt = 130, (2);
    /// Kind, list.
    ListMinFloat = 131, (2);
    /// Kind, list.
    ListMaxInt = 132, (2);
    /// Kind, list.
    ListMaxFloat = 133, (2);
    /// Kind, list, kind, list.
    DotProduct = 134, (4);
    /// Kind, list, kind, list.
    CosineSimilarity = 135, (4);
    /// Kind, list, kind, list.
    EuclideanDistance = 136, (4);
    /// Value, kind, boundaries: how many of them are not above the value.
    BucketizeFloat = 137, (3);
    /// Value, kind, words: a list of 0 and, at the value's place, 1.
    OneHotInt = 138, (3);
    /// Value, kind, words.
    OneHotBytes = 139, (3);
    /// Value, kind, keys: the place of the value among them, from 1; null where it is not there.
    PlaceInt = 140, (3);
    /// Value, kind, keys.
    PlaceBytes = 141, (3);
    /// A list of these integers.
    ListOfInts = 142, (_);
    /// A list of these floats.
    ListOfFloats = 143, (_);
    /// A list of these texts.
    ListOfBytes = 144, (_);
}

impl Function {
    /// The code of a list's element type, for `kind`: 0 `bool`, 1 `int32`, 2 `int64` and `unix_timestamp`, 3 `float32`,
    /// 4 `float64`, 5 all else.
    pub const fn element_code(element: &crate::ValueType) -> i64 {
        match element {
            crate::ValueType::Bool => 0,
            crate::ValueType::Int32 => 1,
            crate::ValueType::Int64 | crate::ValueType::UnixTimestamp => 2,
            crate::ValueType::Float32 => 3,
            crate::ValueType::Float64 => 4,
            _ => 5,
        }
    }
}
