//! Which features to look up, and what to call them.

use std::collections::BTreeMap;

use mezze_core::ValueType;
use mezze_model::{Definitions, FeatureView};

use crate::error::{OfflineError, Result, hint};

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeatureSelection {
    /// Features by name, each `view:feature`.
    Features(Vec<String>),
    /// All that a feature service selects.
    Service(String),
}

/// Features to look up, with their names in the data set.
#[derive(Clone, Debug, PartialEq)]
pub struct SelectedFeatures {
    /// By view, in the order of the request.
    pub views: Vec<SelectedView>,
    /// The columns that the service's request sources declare, which the entity rows bring along.
    pub request_columns: Vec<RequestColumn>,
}

/// Features of one view.
#[derive(Clone, Debug, PartialEq)]
pub struct SelectedView {
    /// The view's name in the definitions.
    pub view: String,
    /// What long names and messages call it: its alias, if it has one.
    pub name: String,
    /// The view's join key to the column of the entity rows that holds it, where the names differ.
    pub join_key_map: BTreeMap<String, String>,
    /// The features, in order.
    pub features: Vec<SelectedFeature>,
}

/// A feature of a view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectedFeature {
    /// Its name in the view.
    pub name: String,
    /// Its name in the data set.
    pub output_name: String,
    /// Its type.
    pub value_type: ValueType,
}

/// A column that a request source declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestColumn {
    /// The request source.
    pub request_source: String,
    /// The column.
    pub name: String,
    /// Its type.
    pub value_type: ValueType,
}

impl SelectedView {
    /// All features of a view, by their own names.
    pub fn all_of(view: &FeatureView) -> Self {
        let feature = |feature: &mezze_core::FeatureSchema| SelectedFeature {
            name: feature.name.clone(),
            output_name: feature.name.clone(),
            value_type: feature.value_type.clone(),
        };
        Self {
            view: view.name.clone(),
            name: view.name.clone(),
            join_key_map: BTreeMap::new(),
            features: view.schema.iter().map(feature).collect(),
        }
    }

    /// The column of the entity rows that holds a join key of the view.
    pub fn entity_column<'a>(&'a self, join_key: &'a str) -> &'a str {
        self.join_key_map.get(join_key).map_or(join_key, String::as_str)
    }
}

/// Finds the features of a request. With `full_feature_names` they are called `view__feature`.
pub fn select_features(
    definitions: &Definitions,
    selection: &FeatureSelection,
    full_feature_names: bool,
) -> Result<SelectedFeatures> {
    let selected = match selection {
        FeatureSelection::Features(features) => by_name(definitions, features, full_feature_names)?,
        FeatureSelection::Service(service) => of_service(definitions, service, full_feature_names)?,
    };
    let mut named: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
    for view in &selected.views {
        for feature in &view.features {
            if let Some((first_view, first)) = named.insert(&feature.output_name, (&view.name, &feature.name)) {
                return Err(OfflineError::Collision {
                    column: feature.output_name.clone(),
                    first: format!("feature {first_view}:{first}"),
                    second: format!("feature {}:{}", view.name, feature.name),
                    remedy: if full_feature_names {
                        "give one of the views an alias in the feature service"
                    } else {
                        "use --full-feature-names"
                    },
                });
            }
        }
    }
    Ok(selected)
}

fn by_name(definitions: &Definitions, features: &[String], full: bool) -> Result<SelectedFeatures> {
    if features.is_empty() {
        return Err(OfflineError::Request { reason: "no features are asked for: name some, or a feature service".to_owned() });
    }
    let mut views: Vec<SelectedView> = Vec::new();
    for reference in features {
        let form = || OfflineError::FeatureForm { feature: reference.clone() };
        let (view, feature) = reference.trim().split_once(':').ok_or_else(form)?;
        if view.is_empty() || feature.is_empty() || feature.contains(':') {
            return Err(form());
        }
        let view = find_view(definitions, view)?;
        let feature = find_feature(view, &view.name, feature, full)?;
        match views.iter_mut().find(|selected| selected.view == view.name) {
            // Asking twice is asking once.
            Some(selected) if selected.features.contains(&feature) => {}
            Some(selected) => selected.features.push(feature),
            None => views.push(SelectedView { features: vec![feature], ..SelectedView::all_of(view) }),
        }
    }
    Ok(SelectedFeatures { views, request_columns: Vec::new() })
}

fn of_service(definitions: &Definitions, name: &str, full: bool) -> Result<SelectedFeatures> {
    let service = definitions.feature_service(name).ok_or_else(|| {
        let names = definitions.feature_services.iter().map(|service| service.name.as_str());
        OfflineError::Unknown { kind: "feature service".to_owned(), name: name.to_owned(), hint: hint(name, names) }
    })?;
    let mut views = Vec::new();
    for projection in &service.projections {
        let view = find_view(definitions, &projection.view)?;
        let name = projection.name_to_use();
        let features = projection.features.iter().map(|feature| find_feature(view, name, feature, full));
        views.push(SelectedView {
            view: view.name.clone(),
            name: name.to_owned(),
            join_key_map: projection.join_key_map.clone(),
            features: features.collect::<Result<_>>()?,
        });
    }
    let mut request_columns = Vec::new();
    for name in &service.request_sources {
        let source = definitions.request_sources.iter().find(|source| source.name == *name).ok_or_else(|| {
            let names = definitions.request_sources.iter().map(|source| source.name.as_str());
            OfflineError::Unknown { kind: "request source".to_owned(), name: name.clone(), hint: hint(name, names) }
        })?;
        request_columns.extend(source.schema.iter().map(|field| RequestColumn {
            request_source: source.name.clone(),
            name: field.name.clone(),
            value_type: field.value_type.clone(),
        }));
    }
    Ok(SelectedFeatures { views, request_columns })
}

fn find_view<'a>(definitions: &'a Definitions, name: &str) -> Result<&'a FeatureView> {
    definitions.feature_view(name).ok_or_else(|| {
        let names = definitions.feature_views.iter().map(|view| view.name.as_str());
        OfflineError::Unknown { kind: "feature view".to_owned(), name: name.to_owned(), hint: hint(name, names) }
    })
}

fn find_feature(view: &FeatureView, name_to_use: &str, name: &str, full: bool) -> Result<SelectedFeature> {
    let feature = view.schema.iter().find(|feature| feature.name == name).ok_or_else(|| {
        let names = view.schema.iter().map(|feature| feature.name.as_str());
        OfflineError::Unknown { kind: "feature".to_owned(), name: format!("{}:{name}", view.name), hint: hint(name, names) }
    })?;
    Ok(SelectedFeature {
        name: name.to_owned(),
        output_name: if full { format!("{name_to_use}__{name}") } else { name.to_owned() },
        value_type: feature.value_type.clone(),
    })
}
