//! Features by name and by service.

use expect_test::expect;
use mezze_offline::{FeatureSelection, select_features};

use crate::common::definitions;

fn features(names: &[&str], full: bool) -> String {
    shown(&FeatureSelection::Features(names.iter().map(|name| (*name).to_owned()).collect()), full)
}

fn service(name: &str, full: bool) -> String {
    shown(&FeatureSelection::Service(name.to_owned()), full)
}

fn shown(selection: &FeatureSelection, full: bool) -> String {
    match select_features(&definitions(), selection, full) {
        Err(error) => error.to_string(),
        Ok(selected) => {
            let views = selected.views.iter().map(|view| {
                let names: Vec<&str> = view.features.iter().map(|feature| feature.output_name.as_str()).collect();
                format!("{} {:?}: {}\n", view.name, view.join_key_map, names.join(", "))
            });
            let request = selected.request_columns.iter().map(|column| format!("{}.{}\n", column.request_source, column.name));
            views.chain(request).collect()
        }
    }
}

#[test]
fn features_are_grouped_by_view_in_the_order_of_the_request() {
    expect![[r#"
        driver_stats {}: trips, conv_rate
        driver_profile {}: age
    "#]]
    .assert_eq(&features(&["driver_stats:trips", "driver_profile:age", "driver_stats:conv_rate", "driver_stats:trips"], false));
    expect![[r#"
        driver_stats {}: driver_stats__trips
    "#]]
    .assert_eq(&features(&["driver_stats:trips"], true));
}

#[test]
fn services_bring_aliases_key_maps_and_request_columns() {
    expect![[r#"
        driver_stats {}: conv_rate, trips
        trip.distance
    "#]]
    .assert_eq(&service("trips_v1", false));
    expect![[r#"
        first {"driver_id": "first_driver"}: first__trips
        second {"driver_id": "second_driver"}: second__trips
    "#]]
    .assert_eq(&service("pair", true));
}

#[test]
fn what_is_wrong_with_a_selection_is_said() {
    expect!["feature first:trips and feature second:trips would both be column trips: use --full-feature-names"]
        .assert_eq(&service("pair", false));
    expect!["feature customer_profile:city and feature driver_profile:city would both be column city: use --full-feature-names"]
        .assert_eq(&features(&["customer_profile:city", "driver_profile:city"], false));
    expect!["there is no feature driver_stats:trip; did you mean trips?"].assert_eq(&features(&["driver_stats:trip"], false));
    expect!["there is no feature driver_stats:latitude; there are conv_rate, trips"]
        .assert_eq(&features(&["driver_stats:latitude"], false));
    expect!["there is no feature view driver_stat; did you mean driver_stats?"]
        .assert_eq(&features(&["driver_stat:trips"], false));
    expect!["there is no feature service trips_v2; did you mean trips_v1?"].assert_eq(&service("trips_v2", false));
    expect![[r#"feature "trips" is not of the form view:feature"#]].assert_eq(&features(&["trips"], false));
    expect!["no features are asked for: name some, or a feature service"].assert_eq(&features(&[], false));
}
