//! A transform: `mezze transform build` makes a component of it.

mezze_transform::rows! {
    /// How heavy a loan weighs on an income. The parameters are what it takes, by the names of features, join keys or request data;
    /// what it returns are its features. Where a parameter that is no `Option` is null, so are the features.
    fn burden(income: f64, loan_amnt: i64, debt: Option<f64>) -> (burden: f64, grade: String) {
        let burden = (loan_amnt as f64 + debt.unwrap_or(0.0)) / income;
        let grade = if burden < 0.5 { "light" } else if burden < 2.0 { "fair" } else { "heavy" };
        (burden, grade.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_loan_is_light() {
        assert_eq!(burden(50_000.0, 1_000, None), (0.02, "light".into()));
    }
}
