//! The sample repository of `mezze init`: a made-up lender's data, the same bytes at every run.
//!
//! Borrowers apply for loans. What a model may learn from is what was known when each of them applied: statistics of where
//! they live, which change once a year, and their credit history, which changes every month.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float32Array, Float64Array, Int32Array, Int64Array, ListBuilder, RecordBatch, StringArray,
    StringBuilder, TimestampMicrosecondArray, TimestampNanosecondArray,
};
use mezze_core::{Span, Timestamp};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::failure::{Failure, Outcome};

/// Writes the repository of `project` into `folder`, which must be empty or not exist.
pub(crate) fn write(folder: &Path, project: &str) -> Outcome {
    if !is_free(folder).map_err(|error| Failure::io("cannot look into", folder, &error))? {
        return Err(Failure::input(format!("the folder {} is not empty", folder.display()))
            .hint("name a new folder, so that nothing of yours is overwritten"));
    }
    let put = |name: &str, text: String| {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|error| Failure::io("cannot write", &path, &error))
    };
    for inner in ["features", "data"] {
        let path = folder.join(inner);
        fs::create_dir_all(&path).map_err(|error| Failure::io("cannot make the folder", &path, &error))?;
    }
    put("feature_store.yaml", include_str!("sample/feature_store.yaml").replace("{{project}}", project))?;
    put("features/credit.yaml", include_str!("sample/credit.yaml").into())?;
    put(".gitignore", include_str!("sample/gitignore").into())?;

    let places = places();
    let people = people(&places);
    write_parquet(&folder.join("data/zipcodes.parquet"), &zipcodes(&places)?)?;
    write_parquet(&folder.join("data/credit_history.parquet"), &credit_history(&people)?)?;
    write_parquet(&folder.join("data/loans.parquet"), &loans(&people)?)?;
    let readme = include_str!("sample/README.md").replace("{{project}}", project);
    let borrower = &people[0];
    put("README.md", readme.replace("{{zipcode}}", &borrower.zipcode.to_string()).replace("{{dob_ssn}}", &borrower.dob_ssn))
}

/// A borrower of the sample: ZIP code and key.
pub(crate) fn borrower() -> (i64, String) {
    let people = people(&places());
    people.into_iter().next().map_or_else(|| (0, String::new()), |person| (person.zipcode, person.dob_ssn))
}

fn is_free(folder: &Path) -> io::Result<bool> {
    match fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

fn write_parquet(path: &Path, batch: &RecordBatch) -> Outcome {
    let file = File::create(path).map_err(|error| Failure::io("cannot write", path, &error))?;
    let level = ZstdLevel::try_new(3)?;
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(level)).build();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties))?;
    writer.write(batch)?;
    writer.close()?;
    Ok(())
}

/// What stays the same about a ZIP code area.
struct Place {
    zipcode: i64,
    city: String,
    state: &'static str,
    urban: bool,
    population: f64,
    income: f64,
    growth: f64,
}

fn places() -> Vec<Place> {
    let mut random = Random(0x6d65_7a7a_6501);
    let mut zipcode = 1_000;
    (0..PLACES)
        .map(|index| {
            zipcode += 1 + random.below(18) as i64;
            let (first, last) = (random.pick(&CITY_FIRST), random.pick(&CITY_LAST));
            let urban = random.unit() < 0.3;
            // Areas of one state stand together, as ZIP codes do.
            let state = STATES[index * STATES.len() / PLACES];
            let population = random.bell(if urban { 24_000.0 } else { 5_500.0 }, 0.6);
            let income = random.bell(if urban { 61_000.0 } else { 52_000.0 }, 0.22);
            Place {
                zipcode,
                city: format!("{first}{last}"),
                state,
                urban,
                population,
                income,
                growth: random.unit() * 0.05 - 0.015,
            }
        })
        .collect()
}

/// Statistics of each area, published once a year; a tenth of them are corrected some weeks later.
fn zipcodes(places: &[Place]) -> Result<RecordBatch, Failure> {
    let mut random = Random(0x6d65_7a7a_6502);
    let mut rows = ZipcodeRows::default();
    for year in 0..YEARS {
        let published = FIRST_YEAR.saturating_add(days(365 * year));
        for place in places {
            let population = (place.population * (1.0 + place.growth).powi(year as i32)) as i64;
            let income = (place.income * (1.0 + 0.03 * year as f64)).round();
            let unemployment = (random.unit() * 0.07 + 0.02) as f32;
            // A few areas are too small for figures of income.
            let income = (population > 900).then_some(income);
            rows.push(place, published, days(20), population, income, unemployment);
            if random.unit() < 0.1 {
                rows.push(place, published, days(50), population + random.below(40) as i64, income, unemployment);
            }
        }
    }
    rows.finish()
}

#[derive(Default)]
struct ZipcodeRows {
    zipcode: Vec<i64>,
    city: Vec<String>,
    state: Vec<&'static str>,
    urban: Vec<bool>,
    pop: Vec<i64>,
    median_income: Vec<Option<f64>>,
    unemployment: Vec<f32>,
    event: Vec<i64>,
    created: Vec<i64>,
}

impl ZipcodeRows {
    fn push(&mut self, place: &Place, event: Timestamp, delay: Span, pop: i64, income: Option<f64>, unemployment: f32) {
        self.zipcode.push(place.zipcode);
        self.city.push(place.city.clone());
        self.state.push(place.state);
        self.urban.push(place.urban);
        self.pop.push(pop);
        self.median_income.push(income);
        self.unemployment.push(unemployment);
        self.event.push(micros(event));
        self.created.push(micros(event.saturating_add(delay)));
    }

    fn finish(self) -> Result<RecordBatch, Failure> {
        Ok(RecordBatch::try_from_iter([
            ("zipcode", Arc::new(Int64Array::from(self.zipcode)) as ArrayRef),
            ("city", Arc::new(StringArray::from(self.city))),
            ("state", Arc::new(StringArray::from(self.state))),
            ("urban", Arc::new(BooleanArray::from(self.urban))),
            ("pop", Arc::new(Int64Array::from(self.pop))),
            ("median_income", Arc::new(Float64Array::from(self.median_income))),
            ("unemployment", Arc::new(Float32Array::from(self.unemployment))),
            ("event_timestamp", Arc::new(TimestampMicrosecondArray::from(self.event).with_timezone("UTC"))),
            ("created_timestamp", Arc::new(TimestampMicrosecondArray::from(self.created).with_timezone("UTC"))),
        ])?)
    }
}

/// What stays the same about a borrower.
struct Person {
    dob_ssn: String,
    zipcode: i64,
    opened: i64,
    /// From 0, careful, to 1.
    risk: f64,
    wealth: f64,
    accounts: Vec<&'static str>,
}

fn people(places: &[Place]) -> Vec<Person> {
    let mut random = Random(0x6d65_7a7a_6503);
    (0..PEOPLE)
        .map(|_| {
            let (year, month, day) = (1940 + random.below(64), 1 + random.below(12), 1 + random.below(28));
            let dob_ssn = format!("{year}{month:02}{day:02}_{:04}", random.below(10_000));
            let place = random.pick(places);
            let opened = FIRST_YEAR.saturating_sub(days(365 + random.below(9_000) as i64));
            let accounts = ACCOUNTS.into_iter().filter(|_| random.unit() < 0.45).collect();
            Person {
                dob_ssn,
                zipcode: place.zipcode,
                opened: micros(opened),
                risk: random.unit(),
                wealth: place.income,
                accounts,
            }
        })
        .collect()
}

/// A statement a month of each borrower, from the month of the first account on.
fn credit_history(people: &[Person]) -> Result<RecordBatch, Failure> {
    let mut random = Random(0x6d65_7a7a_6504);
    let mut keys: Vec<&str> = Vec::new();
    let mut dues: [Vec<Option<i64>>; 4] = Default::default();
    let (mut utilisation, mut bankrupt, mut opened) = (Vec::new(), Vec::new(), Vec::new());
    let [mut hard_pulls, mut missed] = [const { Vec::new() }; 2];
    let mut accounts = ListBuilder::new(StringBuilder::new());
    let mut event = Vec::new();
    for month in 0..MONTHS {
        for person in people {
            // Newcomers: one in eight begins later than the others.
            if person.dob_ssn.ends_with('7') && month < 3 {
                continue;
            }
            let at =
                FIRST_STATEMENT.saturating_add(days(30 * month)).saturating_add(Span::from_seconds(random.below(86_400) as i64));
            keys.push(person.dob_ssn.as_str());
            for (due, (account, share)) in
                dues.iter_mut().zip([("card", 0.12), ("mortgage", 3.4), ("student", 0.5), ("vehicle", 0.35)])
            {
                let amount = (person.wealth * share * (0.4 + person.risk + 0.2 * random.unit())).round() as i64;
                due.push(person.accounts.contains(&account).then_some(amount));
            }
            utilisation.push((person.risk * 0.8 + random.unit() * 0.2) as f32);
            hard_pulls.push((person.risk * 6.0 * random.unit()) as i32);
            missed.push((person.risk.powi(3) * 9.0 * random.unit()) as i32);
            bankrupt.push(person.risk > 0.985);
            opened.push(person.opened);
            for account in &person.accounts {
                accounts.values().append_value(account);
            }
            accounts.append(true);
            event.push(at.nanos());
        }
    }
    let [card, mortgage, student, vehicle] = dues.map(|due| Arc::new(Int64Array::from(due)) as ArrayRef);
    // Nanoseconds without a zone: sources differ, and Mezze reads all of them.
    Ok(RecordBatch::try_from_iter([
        ("dob_ssn", Arc::new(StringArray::from(keys)) as ArrayRef),
        ("credit_card_due", card),
        ("mortgage_due", mortgage),
        ("student_loan_due", student),
        ("vehicle_loan_due", vehicle),
        ("utilisation", Arc::new(Float32Array::from(utilisation))),
        ("hard_pulls", Arc::new(Int32Array::from(hard_pulls))),
        ("missed_payments", Arc::new(Int32Array::from(missed))),
        ("bankrupt", Arc::new(BooleanArray::from(bankrupt))),
        ("first_account", Arc::new(TimestampMicrosecondArray::from(opened))),
        ("accounts", Arc::new(accounts.finish())),
        ("event_timestamp", Arc::new(TimestampNanosecondArray::from(event))),
    ])?)
}

/// The labels: loans, when each was applied for, and whether it was paid back.
fn loans(people: &[Person]) -> Result<RecordBatch, Failure> {
    let mut random = Random(0x6d65_7a7a_6505);
    let [mut loan_id, mut zipcode, mut amount, mut event] = [const { Vec::new() }; 4];
    let (mut keys, mut repaid) = (Vec::new(), Vec::new());
    let span = days(30 * MONTHS).seconds().unsigned_abs();
    for id in 0..LOANS {
        let person = random.pick(people);
        let applied = FIRST_STATEMENT.saturating_add(Span::from_seconds(random.below(span) as i64));
        loan_id.push(10_001 + id);
        // A few borrowers are not known to the bureau.
        keys.push(if random.unit() < 0.01 { "19000101_0000" } else { person.dob_ssn.as_str() });
        zipcode.push(person.zipcode);
        amount.push(500 + 250 * random.below(140) as i64);
        repaid.push(i64::from(random.unit() > 0.05 + 0.6 * person.risk.powi(2)));
        event.push(micros(applied));
    }
    Ok(RecordBatch::try_from_iter([
        ("loan_id", Arc::new(Int64Array::from(loan_id)) as ArrayRef),
        ("dob_ssn", Arc::new(StringArray::from(keys))),
        ("zipcode", Arc::new(Int64Array::from(zipcode))),
        ("loan_amnt", Arc::new(Int64Array::from(amount))),
        ("event_timestamp", Arc::new(TimestampMicrosecondArray::from(event).with_timezone("UTC"))),
        ("repaid", Arc::new(Int64Array::from(repaid))),
    ])?)
}

const fn micros(at: Timestamp) -> i64 {
    at.nanos().div_euclid(1_000)
}

const fn days(count: i64) -> Span {
    Span::from_seconds(86_400 * count)
}

/// SplitMix64: the same numbers everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to `end`, without it.
    fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    /// From 0 to 1, without it.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// About `middle`, rarely far from it: the mean of four even draws, spread by a part of `middle`.
    fn bell(&mut self, middle: f64, spread: f64) -> f64 {
        let even = (0..4).map(|_| self.unit()).sum::<f64>() / 2.0 - 1.0;
        (middle * (1.0 + spread * even * 1.7)).max(middle * 0.04)
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }
}

/// The instant that the sample speaks of as today: later than all its rows.
pub(crate) const AS_OF: Timestamp = FIRST_STATEMENT.saturating_add(days(30 * MONTHS + 1));

/// 2024-05-01.
const FIRST_YEAR: Timestamp = Timestamp::from_seconds(1_714_521_600);
/// 2026-01-01.
const FIRST_STATEMENT: Timestamp = Timestamp::from_seconds(1_767_225_600);
const YEARS: i64 = 3;
const MONTHS: i64 = 8;
const PLACES: usize = 8_800;
const PEOPLE: usize = 6_000;
const LOANS: i64 = 20_000;
const ACCOUNTS: [&str; 5] = ["card", "mortgage", "student", "vehicle", "savings"];
const CITY_FIRST: [&str; 24] = [
    "Alder", "Amber", "Birch", "Bright", "Cedar", "Clear", "Copper", "Elm", "Fair", "Fern", "Glen", "Hazel", "Iron", "Lake",
    "Maple", "Mill", "North", "Oak", "Pine", "Quarry", "Red", "Silver", "Stone", "Willow",
];
const CITY_LAST: [&str; 20] = [
    " Bay", " Bluff", "brook", "bury", " City", "dale", " Falls", "field", "ford", " Grove", "haven", " Hills", "land", "mont",
    "port", " Ridge", " Springs", "ton", "view", "wood",
];
const STATES: [&str; 48] = [
    "MA", "RI", "NH", "ME", "VT", "CT", "NJ", "NY", "PA", "DE", "MD", "VA", "WV", "NC", "SC", "GA", "FL", "AL", "TN", "MS", "KY",
    "OH", "IN", "MI", "IA", "WI", "MN", "SD", "ND", "MT", "IL", "MO", "KS", "NE", "LA", "AR", "OK", "TX", "CO", "WY", "ID", "UT",
    "AZ", "NM", "NV", "CA", "OR", "WA",
];
