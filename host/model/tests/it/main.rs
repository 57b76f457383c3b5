//! Definitions from files to the registry.

mod check;
mod diff;
mod expressions;
mod load;
mod registry;
mod schema;

use std::fs;

use mezze_model::{Definitions, LoadError, Repo};

const STORE: &str = "project: credit\nregistry: data/registry\nonline_store: { type: directory, path: data/replica }\n";

const CREDIT: &str = "\
entities:
  - { name: zipcode, join_keys: [zipcode], value_type: int64, description: US postal code }
  - { name: borrower, join_keys: [dob_ssn], value_type: string }
sources:
  - name: zipcode_table
    path: data/zipcode_table.parquet
    timestamp_field: event_timestamp
    created_timestamp_column: created_timestamp
    field_mapping: { pop: population }
  - { name: bureau, path: data/history.csv, format: csv, timestamp_field: ts }
request_sources:
  - { name: application, schema: [{ name: loan_amnt, dtype: int64 }] }
feature_views:
  - name: zipcode_features
    entities: [zipcode]
    source: zipcode_table
    ttl: 3650d
    schema: [{ name: city, dtype: string }, { name: population, dtype: int64 }]
    tags: { team: risk }
  - name: credit_history
    entities: [borrower]
    source: bureau
    ttl: 90m
    schema: [{ name: mortgage_due, dtype: float64 }, { name: accounts, dtype: 'list<string>' }]
    available_after: 2h
    available: event
    retain: 30d
feature_services:
  - name: credit_v1
    features: [zipcode_features, 'credit_history:mortgage_due']
    request_sources: [application]
  - name: pairs
    features:
      - { view: credit_history, alias: partner, join_key_map: { dob_ssn: partner_ssn }, features: [accounts] }
      - credit_history:accounts
      - credit_history:mortgage_due
";

/// A repository with these files in `features/`.
fn repo(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("feature_store.yaml"), STORE).expect("it can be written");
    fs::create_dir(folder.path().join("features")).expect("it can be made");
    for (name, text) in files {
        fs::write(folder.path().join("features").join(name), text).expect("it can be written");
    }
    folder
}

fn load(folder: &tempfile::TempDir) -> Result<Repo, LoadError> {
    let variable = |name: &str| (name == "BUCKET").then(|| "s3://bucket".to_owned());
    mezze_model::load(folder.path(), &variable)
}

/// The definitions of one file.
fn definitions(text: &str) -> Definitions {
    load(&repo(&[("credit.yaml", text)])).expect("the definitions are right").definitions
}
