//! Transforms in Rust: one plain function, which is then computed alike in training and on every host that serves.
//!
//! ```
//! mezze_transform::rows! {
//!     /// How much of a loan's installments an income leaves.
//!     fn burden(income: f64, installment: Option<f64>, city: &str) -> (share: f64, note: Option<String>) {
//!         let share = installment.unwrap_or(0.0) / income;
//!         (share, (share > 0.5).then(|| format!("high for {city}")))
//!     }
//! }
//! ```
//!
//! The parameters are the columns that the transform takes, by the names of features, join keys or request data; what it returns are
//! its features, in order. A row in which a parameter that is no `Option` is null has null features, and the function is not called.
//! [`columns!`] has the form for functions of whole columns.
//!
//! A function sees one row at a time and nothing else: there is no clock, no file and no state that lasts. A panic ends the call;
//! that feature of that request then has the status `INVALID`.
//!
//! A transform has at most eight features.
//!
//! | Rust | type of the feature |
//! | --- | --- |
//! | `bool`, `i32`, `i64`, `f32`, `f64` | `bool`, `int32`, `int64`, `float32`, `float64` |
//! | `&str`, `String` | `string` |
//! | `&[u8]`, `Vec<u8>` | `bytes` |
//! | [`Timestamp`] | `unix_timestamp` |
//! | [`List<T>`](List) | `list<T>` of one of the above |
#![forbid(unsafe_op_in_unsafe_fn)]

mod columns;
mod list;
#[cfg(all(target_family = "wasm", not(target_feature = "atomics")))]
mod memory;
mod value;

pub use columns::{Column, Made};
#[doc(hidden)]
pub use columns::{ColumnBuilder, Columns, ColumnsMade, RowsMade, field};
pub use list::{Element, List};
pub use value::{Input, Output, Timestamp};

/// What wit/transform.wit declares.
#[allow(missing_docs, clippy::all, reason = "generated; the interface is documented in wit/transform.wit")]
#[doc(hidden)]
pub mod bindings {
    wit_bindgen::generate!({
        world: "transform",
        path: "wit/transform.wit",
        pub_export_macro: true,
        export_macro_name: "export_transform",
    });
}

/// Makes a transform of a function of one row. See the [crate's documentation](crate).
#[macro_export]
macro_rules! rows {
    (
        $(#[$about:meta])*
        fn $name:ident ( $($input:ident : $input_type:ty),* $(,)? ) -> ( $($output:ident : $output_type:ty),+ $(,)? ) $body:block
    ) => {
        $(#[$about])*
        #[allow(unused_parens, reason = "a single feature is returned as it is")]
        pub fn $name ( $($input : $input_type),* ) -> ( $($output_type),+ ) $body

        $crate::__export! {
            inputs { $($input : $input_type),* }
            outputs { $($output : $output_type),+ }
            run |rows, columns| {
                let mut columns = columns;
                $( let $input = columns.take::<$input_type>()?; )*
                #[allow(unused_parens, reason = "a single feature is returned as it is")]
                let mut made = ( $( $crate::ColumnBuilder::<$output_type>::new(rows) ),+ );
                for row in 0..rows {
                    // One closure a row, so that a null leaves it early.
                    let values = (|| {
                        $( let $input = $input.get(row)?; )*
                        Some($name( $($input),* ))
                    })();
                    $crate::RowsMade::push(&mut made, values);
                }
                Ok($crate::RowsMade::finish(made))
            }
        }
    };
}

/// Makes a transform of a function of whole columns, for what is faster, or simpler, on many rows at once.
///
/// ```
/// mezze_transform::columns! {
///     /// The logarithm of an amount.
///     fn log_amount(rows: usize, amount: Column<f64>) -> (log_amount: f64) {
///         (0..rows).map(|row| amount.get(row).map(f64::ln)).collect()
///     }
/// }
/// ```
///
/// It returns a [`Made`] for each feature, which can be collected from values or from `Option`s of them. A row's values have to
/// follow from that row alone: one host calls with one row, another with a thousand.
#[macro_export]
macro_rules! columns {
    (
        $(#[$about:meta])*
        fn $name:ident (
            $rows:ident : usize $(, $input:ident : Column<$input_type:ty>)* $(,)?
        ) -> ( $($output:ident : $output_type:ty),+ $(,)? ) $body:block
    ) => {
        $(#[$about])*
        #[allow(unused_parens, unused_variables, reason = "a single feature is returned as it is; a function need not count rows")]
        pub fn $name ( $rows: usize $(, $input : $crate::Column<'_, $input_type>)* ) -> ( $($crate::Made<$output_type>),+ ) $body

        $crate::__export! {
            inputs { $($input : $input_type),* }
            outputs { $($output : $output_type),+ }
            run |rows, columns| {
                let mut columns = columns;
                $( let $input = columns.take::<$input_type>()?; )*
                $crate::ColumnsMade::finish($name(rows $(, $input)*), rows, &[ $( stringify!($output) ),+ ])
            }
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    (
        inputs { $($input:ident : $input_type:ty),* }
        outputs { $($output:ident : $output_type:ty),+ }
        run |$rows:ident, $columns:ident| $run:block
    ) => {
        #[doc(hidden)]
        pub struct MezzeTransform;

        const _: () = {
            use $crate::bindings::exports::mezze::features::computation;

            impl computation::Guest for MezzeTransform {
                fn describe() -> computation::Schema {
                    computation::Schema {
                        inputs: vec![ $( $crate::field(stringify!($input), <$input_type as $crate::Input<'_>>::dtype()) ),* ],
                        outputs: vec![ $( $crate::field(stringify!($output), <$output_type as $crate::Output>::dtype()) ),+ ],
                    }
                }

                fn run(rows: u32, inputs: Vec<computation::Column>) -> Result<Vec<computation::Column>, String> {
                    let $rows = rows as usize;
                    let $columns = $crate::Columns::new($rows, &inputs);
                    #[allow(unused_mut, reason = "a transform may take nothing")]
                    let made: Result<Vec<computation::Column>, String> = (move || $run)();
                    made
                }
            }
        };

        // Elsewhere, in tests, it is a function like any other.
        #[cfg(target_family = "wasm")]
        $crate::bindings::export_transform!(MezzeTransform with_types_in $crate::bindings);
    };
}
