//! Pages of a delta: with the base they give every cell of the newest rows, cost what has changed, and are refused when damaged.

use std::collections::{BTreeMap, BTreeSet};

use mezze_core::{
    Audience, Cell, ColumnData, ColumnInput, EntityColumn, FeatureSchema, Head, KeyColumn, KeyHash, KeyPart, KeyType, Limits,
    Manifest, PageInput, PageKey, PageRef, PageWriteError, PageWriter, PatchInput, Request, Segment, SegmentId, Selection,
    Snapshot, Span, Status, Table, TableSchema, Timestamp, Value, ValueType, ViewInput, ViewSchema,
};
use proptest::prelude::*;

/// The rows of two views, each with event time, a number and a text; `None` where a view has none.
type Row = [Option<(i64, Option<i64>, Option<String>)>; 2];
type Rows = BTreeMap<i64, Row>;

const BASE: SegmentId = SegmentId::from_bytes([1; 16]);
const DELTA: SegmentId = SegmentId::from_bytes([2; 16]);

fn schema() -> TableSchema {
    let feature = |name, value_type| FeatureSchema::new(name, value_type);
    let view = |name, features| ViewSchema::new(name, Span::ZERO, Audience::Server, features);
    TableSchema::new(
        "user",
        vec![KeyColumn::new("user", "user", KeyType::Int)],
        vec![
            view("a", vec![feature("a_number", ValueType::Int64), feature("a_text", ValueType::String)]),
            view("b", vec![feature("b_number", ValueType::Int64), feature("b_text", ValueType::String)]),
        ],
    )
}

fn hash(user: i64) -> KeyHash {
    KeyHash::of(&[KeyPart::Int(user)])
}

/// In order of hash.
fn ordered(users: impl Iterator<Item = i64>) -> Vec<i64> {
    let mut users: Vec<i64> = users.collect();
    users.sort_by_key(|user| (hash(*user), *user));
    users
}

/// Cells of one view of some rows, column by column.
struct Cells {
    times: Vec<i64>,
    present: Vec<bool>,
    numbers: Vec<i64>,
    numbers_valid: Vec<bool>,
    offsets: Vec<u32>,
    heap: Vec<u8>,
    texts_valid: Vec<bool>,
    own: [Vec<bool>; 3],
}

/// `own` says which of the three cells of a user's row are other than the base's.
fn cells(users: &[i64], rows: &Rows, view: usize, own: impl Fn(i64) -> [bool; 3]) -> Cells {
    let mut cells = Cells {
        times: vec![],
        present: vec![],
        numbers: vec![],
        numbers_valid: vec![],
        offsets: vec![0],
        heap: vec![],
        texts_valid: vec![],
        own: [vec![], vec![], vec![]],
    };
    for user in users {
        let row = rows.get(user).and_then(|row| row[view].as_ref());
        cells.times.push(row.map_or(0, |row| row.0));
        cells.present.push(row.is_some());
        cells.numbers.push(row.and_then(|row| row.1).unwrap_or(0));
        cells.numbers_valid.push(row.is_some_and(|row| row.1.is_some()));
        let text = row.and_then(|row| row.2.as_deref());
        cells.heap.extend_from_slice(text.unwrap_or_default().as_bytes());
        cells.offsets.push(cells.heap.len() as u32);
        cells.texts_valid.push(text.is_some());
        cells.own.iter_mut().zip(own(*user)).for_each(|(flags, own)| flags.push(own));
    }
    cells
}

fn write_page(
    page: PageKey,
    bucket_count: u32,
    keyed: &[i64],
    views: &[Cells],
    places: Option<&[(u32, u32)]>,
) -> Result<Vec<u8>, PageWriteError> {
    let hashes: Vec<KeyHash> = keyed.iter().map(|user| hash(*user)).collect();
    let keys = [ColumnInput { data: ColumnData::Int(keyed), validity: None }];
    let features: Vec<[ColumnInput<'_>; 2]> = views
        .iter()
        .map(|cells| {
            let texts = ColumnData::Bytes { offsets: &cells.offsets, data: &cells.heap };
            [
                ColumnInput { data: ColumnData::Int(&cells.numbers), validity: Some(&cells.numbers_valid) },
                ColumnInput { data: texts, validity: Some(&cells.texts_valid) },
            ]
        })
        .collect();
    let inputs: Vec<ViewInput<'_>> = views
        .iter()
        .zip(&features)
        .map(|(cells, features)| ViewInput { times: &cells.times, present: Some(&cells.present), features })
        .collect();
    let input = PageInput { key: page, bucket_count, hashes: &hashes, keys: &keys, views: &inputs };
    let mut bytes = Vec::new();
    match places {
        None => PageWriter::new().write(&input, &mut bytes)?,
        Some(places) => {
            let own: Vec<&[bool]> = views.iter().flat_map(|cells| &cells.own).map(Vec::as_slice).collect();
            PageWriter::new().write_patch(&PatchInput { page: input, places, own: &own }, &mut bytes)?;
        }
    }
    Ok(bytes)
}

type Pages = BTreeMap<PageKey, Vec<u8>>;

/// The pages of a base, and the place of each user.
fn write_base(rows: &Rows, bucket_count: u32, pages: &mut Pages) -> BTreeMap<i64, (u32, u32)> {
    let mut places = BTreeMap::new();
    for bucket in 0..bucket_count {
        let users = ordered(rows.keys().copied().filter(|user| hash(*user).bucket(bucket_count) == bucket));
        places.extend(users.iter().zip(0_u32..).map(|(user, row)| (*user, (bucket, row))));
        let views = [0, 1].map(|view| cells(&users, rows, view, |_| [true; 3]));
        let key = PageKey::new(BASE, 0, bucket);
        pages.insert(key, write_page(key, bucket_count, &users, &views, None).expect("the rows are in order"));
    }
    places
}

/// Which cells of a view differ.
fn changed(before: &Rows, after: &Rows, view: usize, user: i64) -> [bool; 3] {
    let of = |rows: &Rows| rows.get(&user).and_then(|row| row[view].clone());
    match (of(before), of(after)) {
        (Some(before), Some(after)) => [before.0 != after.0, before.1 != after.1, before.2 != after.2],
        (None, Some(_)) => [true; 3],
        (Some(_), None) => [true, false, false],
        (None, None) => [false; 3],
    }
}

fn write_delta(before: &Rows, after: &Rows, places: &BTreeMap<i64, (u32, u32)>, bucket_count: u32, pages: &mut Pages) {
    let users: BTreeSet<i64> = before.keys().chain(after.keys()).copied().collect();
    let differs = |user: &i64| [0, 1].iter().any(|view| changed(before, after, *view, *user).contains(&true));
    let users = ordered(users.into_iter().filter(differs));
    for bucket in 0..bucket_count {
        let here = || users.iter().copied().filter(|user| hash(*user).bucket(bucket_count) == bucket);
        let patched: Vec<i64> = here().filter(|user| places.contains_key(user)).collect();
        let keyed: Vec<i64> = here().filter(|user| !places.contains_key(user)).collect();
        let all: Vec<i64> = patched.iter().chain(&keyed).copied().collect();
        let views = [0, 1].map(|view| cells(&all, after, view, |user| changed(before, after, view, user)));
        let places: Vec<(u32, u32)> = patched.iter().map(|user| places[user]).collect();
        let key = PageKey::new(DELTA, 0, bucket);
        let bytes = write_page(key, bucket_count, &keyed, &views, Some(&places)).expect("the rows are in order");
        let page = PageRef::verify(&bytes, &key, bucket_count, &schema()).expect("the page was just written");
        assert_eq!(page.patched().expect("the page is whole"), places);
        assert_eq!((page.patched_rows() as usize, page.row_count() as usize), (patched.len(), all.len()));
        pages.insert(key, bytes);
    }
}

fn segment(id: SegmentId, bucket_count: u32, shift: i64) -> Segment {
    let time_shifts = vec![Span::from_nanos(shift), Span::ZERO];
    Segment { id, bucket_count, row_count: 1, page_bytes: 1, root: [0; 32], time_shifts }
}

/// The cells of an entity as a lookup answers them: event time, number, text of each view.
fn look_up(snapshot: &Snapshot, pages: &Pages, user: i64) -> Row {
    let columns = vec![EntityColumn::new("user", vec![Value::Int(user)])];
    let features = ["a:a_number", "a:a_text", "b:b_number", "b:b_text"].map(String::from).to_vec();
    let request = Request::new(Selection::Features(features), columns);
    let plan = snapshot.plan(&request, Timestamp::from_seconds(9_000), &Limits::server()).expect("the request fits");
    let manifest = snapshot.manifest();
    let pages: Vec<Option<PageRef<'_>>> = plan
        .pages()
        .iter()
        .map(|key| {
            let table = &manifest.tables[0];
            let segment = if key.segment == BASE { &table.base } else { &table.delta };
            let bucket_count = segment.as_ref().expect("the plan names its segments").bucket_count;
            Some(PageRef::verify(&pages[key], key, bucket_count, &table.schema).expect("the page is whole"))
        })
        .collect();
    let response = plan.answer(&pages).expect("all pages are there");
    [0, 1].map(|view| {
        let state = response.rows[1 + view];
        (state.status != Status::NotFound).then(|| {
            let cell = |column: usize| response.cells[column];
            let number = match cell(1 + 2 * view) {
                Cell::Int(value) => Some(value),
                _ => None,
            };
            let text = match cell(2 + 2 * view) {
                Cell::Bytes(bytes) => Some(String::from_utf8(bytes.to_vec()).expect("texts are UTF-8")),
                _ => None,
            };
            (state.event_time.nanos(), number, text)
        })
    })
}

fn check(before: &Rows, after: &Rows, base_buckets: u32, delta_buckets: u32, shift: i64) {
    let mut pages = Pages::new();
    let places = write_base(before, base_buckets, &mut pages);
    // What is compared is as readers see it: view `a` of the base is moved.
    let moved: Rows = before
        .iter()
        .map(|(user, [a, b])| (*user, [a.clone().map(|(time, number, text)| (time + shift, number, text)), b.clone()]))
        .collect();
    write_delta(&moved, after, &places, delta_buckets, &mut pages);
    let table = Table {
        base: Some(segment(BASE, base_buckets, shift)),
        delta: Some(segment(DELTA, delta_buckets, 0)),
        ..Table::empty(schema())
    };
    let manifest = Manifest {
        project: "test".into(),
        definition_digest: [0; 32],
        input_digest: [0; 32],
        tables: vec![table],
        request_sources: vec![],
        on_demand_views: vec![],
        services: vec![],
    };
    let bytes = manifest.encode().expect("it is small");
    let head = Head {
        epoch: 1,
        issued_at: Timestamp::EPOCH,
        snapshot: Manifest::id_of(&bytes),
        previous: vec![],
        manifest: Some(bytes),
    };
    let snapshot = Snapshot::open(&head.encode().expect("it is small")).expect("it was just written");
    let users: BTreeSet<i64> = before.keys().chain(after.keys()).copied().chain([-7]).collect();
    for user in users {
        let expected = after.get(&user).cloned().unwrap_or([None, None]);
        assert_eq!(look_up(&snapshot, &pages, user), expected, "user {user}");
    }
}

fn a_view() -> impl Strategy<Value = Option<(i64, Option<i64>, Option<String>)>> {
    proptest::option::weighted(0.8, (0..3_i64, proptest::option::of(0..3_i64), proptest::option::of("[ab]{0,2}")))
}

fn some_rows(most: usize) -> impl Strategy<Value = Rows> {
    proptest::collection::btree_map(0..200_i64, [a_view(), a_view()], 0..most)
}

proptest! {
    #[test]
    fn base_and_patch_give_the_newest_rows(
        before in some_rows(60), after in some_rows(60), base_buckets in 1..6_u32, delta_buckets in 1..6_u32, shift in 0..2_i64
    ) {
        // A row without any view is none: the base has no such rows.
        let before = before.into_iter().filter(|(_, row)| row.iter().any(Option::is_some)).collect();
        check(&before, &after, base_buckets, delta_buckets, shift);
    }

    #[test]
    fn a_damaged_patch_is_refused_or_read_without_harm(at in 16..400_usize, byte in any::<u8>()) {
        let (before, after) = (example(300, |_| 0), example(300, |user| user % 3));
        let mut pages = Pages::new();
        let places = write_base(&before, 2, &mut pages);
        write_delta(&before, &after, &places, 1, &mut pages);
        let key = PageKey::new(DELTA, 0, 0);
        let mut bytes = pages[&key].clone();
        let at = at % bytes.len();
        bytes[at] = byte;
        let checksum = xxhash_rust::xxh3::xxh3_64_with_seed(&bytes[16..], u64::from_le_bytes(bytes[..8].try_into().expect("eight")));
        bytes[8..16].copy_from_slice(&checksum.to_le_bytes());
        if let Ok(page) = PageRef::verify(&bytes, &key, 1, &schema()) {
            let _ = page.patched();
            for bucket in 0..2 {
                let key = PageKey::new(BASE, 0, bucket);
                let base = PageRef::verify(&pages[&key], &key, 2, &schema()).expect("the base is whole");
                for row in 0..base.row_count() {
                    if let Ok(Some(found)) = page.find_patched(&base, row) {
                        (0..schema().column_count()).for_each(|column| drop(page.own_cell(found, column)));
                    }
                }
            }
        }
    }
}

/// Users with a number that a function gives.
fn example(users: i64, number: impl Fn(i64) -> i64) -> Rows {
    (0..users).map(|user| (user, [Some((5, Some(number(user)), Some("text".into()))), Some((6, Some(1), None))])).collect()
}

#[test]
fn a_patch_takes_what_has_changed() {
    let before = example(10_000, |_| 0);
    // One number in a hundred has changed.
    let after = example(10_000, |user| i64::from(user % 100 == 0));
    let mut pages = Pages::new();
    let places = write_base(&before, 10, &mut pages);
    write_delta(&before, &after, &places, 1, &mut pages);
    let bytes = pages[&PageKey::new(DELTA, 0, 0)].len();
    // Header, seven descriptors and an end; for 100 rows a place among 16,384 numbers (less than nine bits with its part of a
    // group's end). The values are all 1, and columns without a change have a set of none.
    assert!(bytes < 52 + 16 + 7 * 24 + 8 + 200 + 5 * 13, "{bytes} bytes");
    // Few rows of a large base are few bytes, too.
    let far: BTreeMap<i64, (u32, u32)> = [(0, (5, 3)), (100, (4_000_000_000, 1))].into();
    let few = [0_i64, 100];
    let mut order = ordered(few.into_iter());
    order.sort_by_key(|user| far[user]);
    let views = [0, 1].map(|view| cells(&order, &after, view, |_| [false, view == 0, false]));
    let places: Vec<(u32, u32)> = order.iter().map(|user| far[user]).collect();
    let key = PageKey::new(DELTA, 0, 0);
    let bytes = write_page(key, 1, &[], &views, Some(&places)).expect("the places are in order");
    assert!(bytes.len() < 400, "{} bytes", bytes.len());
    let page = PageRef::verify(&bytes, &key, 1, &schema()).expect("the page was just written");
    assert_eq!(page.patched().expect("the page is whole"), places);
}

#[test]
fn places_that_are_not_in_order_are_no_page() {
    let rows = example(3, |_| 1);
    let views = [0, 1].map(|view| cells(&[0, 1], &rows, view, |_| [true; 3]));
    for places in [[(1, 1), (1, 1)], [(1, 2), (1, 1)], [(2, 0), (1, 0)], [(0, 1), (0, 1 << 24)]] {
        let written = write_page(PageKey::new(DELTA, 0, 0), 1, &[], &views, Some(&places));
        assert!(matches!(written, Err(PageWriteError::BadPlace { .. })), "{places:?}: {written:?}");
    }
}
