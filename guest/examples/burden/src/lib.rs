//! How heavy a loan weighs on an income: numbers, nulls, text and a list, in one transform.

use mezze_transform::{List, Timestamp};

mezze_transform::rows! {
    /// The burden as a share, its logarithm, a grade, the payments of a year, and how many days ago something began.
    fn burden(
        income: f64,
        loan_amnt: i64,
        debt: Option<f64>,
        city: Option<&str>,
        since: Option<Timestamp>,
        now: Timestamp,
    ) -> (burden: f64, strain: f64, grade: Option<String>, payments: List<f64>, days: Option<i64>) {
        let owed = loan_amnt as f64 + debt.unwrap_or(0.0);
        let burden = owed / income;
        let strain = (1.0 + burden.abs()).ln();
        let grade = city.map(|city| {
            let word = if burden < 0.5 { "light" } else if burden < 2.0 { "fair" } else { "heavy" };
            format!("{word} in {city}")
        });
        let payments = (1..=3).map(|year| owed / f64::from(year)).collect();
        let days = since.map(|since| now.0.saturating_sub(since.0) / 86_400_000_000_000);
        (burden, strain, grade, payments, days)
    }
}
