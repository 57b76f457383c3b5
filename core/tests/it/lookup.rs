//! Lookups from requests to responses, over pages made in memory.

use std::collections::BTreeMap;

use expect_test::{Expect, expect};
use mezze_core::{
    AnswerError, Audience, Cell, ColumnData, ColumnInput, EntityColumn, Expired, FeatureSchema, Head, INLINE_SEGMENT, KeyColumn,
    KeyHash, KeyPart, KeyType, Limits, Manifest, ManifestRequestSource, PageInput, PageKey, PageRef, PageWriter, Plan, Request,
    Response, Segment, SegmentId, Selection, Service, ServiceProjection, Snapshot, Span, Status, Table, TableSchema, Timestamp,
    Value, ValueType, ViewInput, ViewSchema,
};

/// A row of the two-view table `item+user`: key, and per view an event time in seconds and a value.
struct Row {
    user: i64,
    item: &'static str,
    clicks: Option<(i64, Option<i64>)>,
    score: Option<(i64, Option<f64>)>,
}

/// Pages by key, as a key-value store holds them.
type Pages = BTreeMap<PageKey, Vec<u8>>;

fn row(user: i64, item: &'static str, clicks: Option<(i64, Option<i64>)>, score: Option<(i64, Option<f64>)>) -> Row {
    Row { user, item, clicks, score }
}

fn schema() -> TableSchema {
    TableSchema::new(
        "item+user",
        vec![KeyColumn::new("user", "customer", KeyType::Int), KeyColumn::new("item", "item", KeyType::String)],
        vec![
            ViewSchema::new(
                "clicks",
                Span::from_seconds(100),
                Audience::Server,
                vec![FeatureSchema::new("count", ValueType::Int64), FeatureSchema::new("shared", ValueType::Int64)],
            ),
            ViewSchema::new(
                "score",
                Span::ZERO,
                Audience::Public,
                vec![FeatureSchema::new("value", ValueType::Float64), FeatureSchema::new("shared", ValueType::Float64)],
            ),
        ],
    )
}

fn key_of(row: &Row) -> [KeyPart<'_>; 2] {
    [KeyPart::Bytes(row.item.as_bytes()), KeyPart::Int(row.user)]
}

fn write_segment(id: u8, bucket_count: u32, mut rows: Vec<Row>, pages: &mut Pages) -> Segment {
    let id = SegmentId::from_bytes([id; 16]);
    rows.sort_by_key(|row| KeyHash::of(&key_of(row)));
    let mut page_bytes = 0;
    for bucket in 0..bucket_count {
        let rows: Vec<&Row> = rows.iter().filter(|row| KeyHash::of(&key_of(row)).bucket(bucket_count) == bucket).collect();
        let hashes: Vec<KeyHash> = rows.iter().map(|row| KeyHash::of(&key_of(row))).collect();
        let mut offsets = vec![0];
        let mut items = Vec::new();
        for row in &rows {
            items.extend_from_slice(row.item.as_bytes());
            offsets.push(items.len() as u32);
        }
        let users: Vec<i64> = rows.iter().map(|row| row.user).collect();
        let clicks: Vec<i64> = rows.iter().map(|row| row.clicks.and_then(|(_, value)| value).unwrap_or(0)).collect();
        let clicks_valid: Vec<bool> = rows.iter().map(|row| row.clicks.is_some_and(|(_, value)| value.is_some())).collect();
        let scores: Vec<f64> = rows.iter().map(|row| row.score.and_then(|(_, value)| value).unwrap_or(0.0)).collect();
        let scores_valid: Vec<bool> = rows.iter().map(|row| row.score.is_some_and(|(_, value)| value.is_some())).collect();
        let seconds = |time: Option<i64>| time.unwrap_or(0) * 1_000_000_000;
        let clicks_times: Vec<i64> = rows.iter().map(|row| seconds(row.clicks.map(|(time, _)| time))).collect();
        let clicks_present: Vec<bool> = rows.iter().map(|row| row.clicks.is_some()).collect();
        let score_times: Vec<i64> = rows.iter().map(|row| seconds(row.score.map(|(time, _)| time))).collect();
        let score_present: Vec<bool> = rows.iter().map(|row| row.score.is_some()).collect();
        let key = PageKey::new(id, 0, bucket);
        let keys = [
            ColumnInput { data: ColumnData::Bytes { offsets: &offsets, data: &items }, validity: None },
            ColumnInput { data: ColumnData::Int(&users), validity: None },
        ];
        let clicks = ColumnInput { data: ColumnData::Int(&clicks), validity: Some(&clicks_valid) };
        let scores = ColumnInput { data: ColumnData::Float64(&scores), validity: Some(&scores_valid) };
        let clicks = [clicks, clicks];
        let scores = [scores, scores];
        let views = [
            ViewInput { times: &clicks_times, present: Some(&clicks_present), features: &clicks },
            ViewInput { times: &score_times, present: Some(&score_present), features: &scores },
        ];
        let mut page = Vec::new();
        PageWriter::new()
            .write(&PageInput { key, bucket_count, hashes: &hashes, keys: &keys, views: &views }, &mut page)
            .expect("the rows are in order");
        page_bytes += page.len() as u64;
        pages.insert(key, page);
    }
    Segment { id, bucket_count, row_count: rows.len() as u64, page_bytes, root: [0; 32], time_shifts: vec![Span::ZERO; 2] }
}

/// A table without keys: one view of one string.
fn inline_table() -> Table {
    let schema = TableSchema::new(
        "",
        vec![],
        vec![ViewSchema::new("today", Span::ZERO, Audience::Public, vec![FeatureSchema::new("weather", ValueType::String)])],
    );
    let mut page = Vec::new();
    let features = [ColumnInput { data: ColumnData::Bytes { offsets: &[0, 4], data: b"rain" }, validity: None }];
    let views = [ViewInput { times: &[5_000_000_000], present: None, features: &features }];
    let key = PageKey::new(INLINE_SEGMENT, 1, 0);
    let hashes = [KeyHash::of(&[])];
    PageWriter::new()
        .write(&PageInput { key, bucket_count: 1, hashes: &hashes, keys: &[], views: &views }, &mut page)
        .expect("one row is in order");
    Table { watermarks: vec![Timestamp::from_seconds(5)], inline: Some(page), ..Table::empty(schema) }
}

fn manifest(base: Option<Segment>, delta: Option<Segment>) -> Manifest {
    let projection = |view, features: &[u16], alias: Option<&str>, map: &[(&str, &str)]| ServiceProjection {
        table: 0,
        view,
        alias: alias.map(String::from),
        join_key_map: map.iter().map(|(key, column)| ((*key).into(), (*column).into())).collect(),
        features: features.into(),
    };
    Manifest {
        project: "test".into(),
        definition_digest: [1; 32],
        input_digest: [2; 32],
        tables: vec![Table { base, delta, ..Table::empty(schema()) }, inline_table()],
        request_sources: vec![ManifestRequestSource {
            name: "order".into(),
            fields: vec![FeatureSchema::new("amount", ValueType::Float64)],
        }],
        on_demand_views: vec![],
        services: vec![
            Service {
                name: "both".into(),
                projections: vec![projection(1, &[0], None, &[]), projection(0, &[0], None, &[])],
                request_sources: vec![0],
            },
            Service {
                name: "pair".into(),
                projections: vec![
                    projection(0, &[0], Some("mine"), &[]),
                    projection(0, &[0], Some("theirs"), &[("user", "other_user")]),
                ],
                request_sources: vec![],
            },
        ],
    }
}

fn snapshot(manifest: &Manifest) -> Snapshot {
    let bytes = manifest.encode().expect("it is small");
    let head = Head {
        epoch: 3,
        issued_at: Timestamp::from_seconds(1000),
        snapshot: Manifest::id_of(&bytes),
        previous: vec![],
        manifest: Some(bytes),
    };
    Snapshot::open(&head.encode().expect("it is small")).expect("it was just written")
}

/// Rows of a base and of a delta that changes user 2, removes user 3 and adds user 5.
fn example() -> (Snapshot, Pages) {
    let mut pages = Pages::new();
    let base = write_segment(
        7,
        4,
        vec![
            row(1, "a", Some((1000, Some(10))), Some((900, Some(0.5)))),
            row(2, "a", Some((1000, Some(20))), None),
            row(3, "a", Some((1000, Some(30))), Some((900, Some(3.5)))),
            row(4, "ü", Some((899, Some(40))), Some((1, None))),
        ],
        &mut pages,
    );
    let delta = write_segment(
        8,
        1,
        vec![
            row(2, "a", Some((1001, Some(21))), Some((901, Some(2.5)))),
            row(3, "a", None, None),
            row(5, "b", None, Some((902, Some(5.5)))),
        ],
        &mut pages,
    );
    (snapshot(&manifest(Some(base), Some(delta))), pages)
}

fn request(selection: Selection, columns: &[(&str, &[Value])]) -> Request {
    Request::new(selection, columns.iter().map(|(name, values)| EntityColumn::new(*name, values.to_vec())).collect())
}

fn features(references: &[&str]) -> Selection {
    Selection::Features(references.iter().map(|reference| (*reference).into()).collect())
}

fn text(value: &str) -> Value {
    Value::String(value.into())
}

fn answer<'a>(plan: &'a Plan, pages: &'a Pages) -> Result<Response<'a>, AnswerError> {
    let found: Vec<Option<PageRef<'a>>> = plan
        .pages()
        .iter()
        .enumerate()
        .map(|(index, key)| {
            let bytes = pages.get(key)?;
            let (segment, table) = plan.page_home(index).expect("the plan knows its pages");
            Some(PageRef::verify(bytes, key, segment.bucket_count, &table.schema).expect("the page is whole"))
        })
        .collect();
    plan.answer(&found)
}

/// One line per column: name, then value, status and event time of each row.
fn show(response: &Response<'_>) -> String {
    let mut out = String::new();
    for (number, column) in response.columns.iter().enumerate() {
        out += &column.name;
        for row in 0..response.row_count {
            let cell = response.cells[number * response.row_count + row];
            let state = response.status(column, row, &cell);
            let value = match cell {
                Cell::Failed => "failed".into(),
                Cell::Null => "null".into(),
                Cell::Int(value) => value.to_string(),
                Cell::Float32(value) => value.to_string(),
                Cell::Float64(value) => value.to_string(),
                Cell::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                Cell::Request(value) => format!("{value:?}"),
                Cell::Made { start, end } => format!("{:?}", &response.made[start as usize..end as usize]),
            };
            out += &format!(" | {value} {} {}", state.status.name(), state.event_time.seconds());
        }
        out.push('\n');
    }
    out
}

fn check(request: &Request, expected: Expect) {
    let (snapshot, pages) = example();
    match snapshot.plan(request, Timestamp::from_seconds(1000), &Limits::server()) {
        Ok(plan) => expected.assert_eq(&show(&answer(&plan, &pages).expect("all pages are there"))),
        Err(error) => expected.assert_eq(&format!("{} {}: {error}\n", error.http_status(), error.feast_class())),
    }
}

#[test]
fn every_status_comes_with_its_value_and_time() {
    let users = [1, 2, 3, 4, 5, 6].map(Value::Int);
    let items = ["a", "a", "a", "ü", "b", "a"].map(text);
    let columns: &[(&str, &[Value])] = &[("user", &users), ("item", &items)];
    let selection = features(&["clicks:count", "score:value", "today:weather"]);
    let mut request = request(selection, columns);
    check(
        &request,
        expect![[r#"
            user | Int(1) PRESENT 0 | Int(2) PRESENT 0 | Int(3) PRESENT 0 | Int(4) PRESENT 0 | Int(5) PRESENT 0 | Int(6) PRESENT 0
            item | String("a") PRESENT 0 | String("a") PRESENT 0 | String("a") PRESENT 0 | String("ü") PRESENT 0 | String("b") PRESENT 0 | String("a") PRESENT 0
            count | 10 PRESENT 1000 | 21 PRESENT 1001 | null NOT_FOUND 0 | null OUTSIDE_MAX_AGE 899 | null NOT_FOUND 0 | null NOT_FOUND 0
            value | 0.5 PRESENT 900 | 2.5 PRESENT 901 | null NOT_FOUND 0 | null NULL_VALUE 1 | 5.5 PRESENT 902 | null NOT_FOUND 0
            weather | rain PRESENT 5 | rain PRESENT 5 | rain PRESENT 5 | rain PRESENT 5 | rain PRESENT 5 | rain PRESENT 5
        "#]],
    );
    request.expired = Expired::Value;
    request.entities.iter_mut().for_each(|column| column.values.drain(..3).for_each(drop));
    check(
        &request,
        expect![[r#"
            user | Int(4) PRESENT 0 | Int(5) PRESENT 0 | Int(6) PRESENT 0
            item | String("ü") PRESENT 0 | String("b") PRESENT 0 | String("a") PRESENT 0
            count | 40 OUTSIDE_MAX_AGE 899 | null NOT_FOUND 0 | null NOT_FOUND 0
            value | null NULL_VALUE 1 | 5.5 PRESENT 902 | null NOT_FOUND 0
            weather | rain PRESENT 5 | rain PRESENT 5 | rain PRESENT 5
        "#]],
    );
}

#[test]
fn a_row_exactly_as_old_as_its_ttl_still_counts() {
    let (snapshot, pages) = example();
    let request = request(features(&["clicks:count"]), &[("user", &[Value::Int(4)]), ("item", &[text("ü")])]);
    let status = |nanos| {
        let plan = snapshot.plan(&request, Timestamp::from_nanos(nanos), &Limits::server()).expect("the request fits");
        let response = answer(&plan, &pages).expect("all pages are there");
        response.rows.last().expect("one view answered").status
    };
    assert_eq!(status(999_000_000_000), Status::Present);
    assert_eq!(status(999_000_000_001), Status::OutsideMaxAge);
    // A row from the future is the newest there is.
    assert_eq!(status(0), Status::Present);
}

#[test]
fn services_rename_views_and_keys_and_echo_request_data() {
    check(
        &request(
            Selection::Service("both".into()),
            &[("amount", &[Value::Int(3)]), ("customer", &[text("1")]), ("item", &[text("a")]), ("noise", &[Value::Null])],
        ),
        expect![[r#"
            amount | Float64(3.0) PRESENT 0
            user | Int(1) PRESENT 0
            item | String("a") PRESENT 0
            value | 0.5 PRESENT 900
            count | 10 PRESENT 1000
        "#]],
    );
    let columns: &[(&str, &[Value])] = &[("user", &[Value::Int(1)]), ("item", &[text("a")]), ("other_user", &[Value::Int(2)])];
    let mut pair = request(Selection::Service("pair".into()), columns);
    check(
        &pair,
        expect![[r#"
        400 FeatureNameCollisionError: feature name `count` is in both `mine` and `theirs`; set full_feature_names to tell them apart
    "#]],
    );
    pair.full_feature_names = true;
    check(
        &pair,
        expect![[r#"
            user | Int(1) PRESENT 0
            item | String("a") PRESENT 0
            other_user | Int(2) PRESENT 0
            mine__count | 10 PRESENT 1000
            theirs__count | 21 PRESENT 1001
        "#]],
    );
}

#[test]
fn null_keys_match_nothing_and_equal_entities_are_each_answered() {
    check(
        &request(
            features(&["clicks:count"]),
            &[("user", &[Value::Null, Value::Int(1), Value::Int(1)]), ("item", &[text("a"), text("a"), text("a")])],
        ),
        expect![[r#"
            user | null NULL_VALUE 0 | Int(1) PRESENT 0 | Int(1) PRESENT 0
            item | String("a") PRESENT 0 | String("a") PRESENT 0 | String("a") PRESENT 0
            count | null NOT_FOUND 0 | 10 PRESENT 1000 | 10 PRESENT 1000
        "#]],
    );
}

#[test]
fn requests_that_do_not_fit_are_told_why() {
    let user: (&str, &[Value]) = ("user", &[Value::Int(1)]);
    let item: (&str, &[Value]) = ("item", &[Value::Int(1)]);
    check(
        &request(features(&["nope:count"]), &[user, item]),
        expect![[r#"
            404 FeatureViewNotFoundException: no feature view `nope` in this snapshot; it has `clicks`, `score`, `today`
        "#]],
    );
    check(
        &request(features(&["clicks:nope"]), &[user, item]),
        expect![[r#"
            404 FeatureViewNotFoundException: feature view `clicks` has no feature `nope`; it has `count`, `shared`
        "#]],
    );
    check(
        &request(Selection::Service("nope".into()), &[user, item]),
        expect![[r#"
            404 FeatureServiceNotFoundException: no feature service `nope` in this snapshot; it has `both`, `pair`
        "#]],
    );
    check(
        &request(features(&["clicks"]), &[user, item]),
        expect![[r#"
            400 FeastError: feature reference `clicks` is not of the form `view:feature`
        "#]],
    );
    check(
        &request(features(&["clicks:count", "clicks:count"]), &[user, item]),
        expect![[r#"
            400 FeastError: feature reference `clicks:count` is there twice
        "#]],
    );
    check(
        &request(features(&["clicks:shared", "score:shared"]), &[user, item]),
        expect![[r#"
            400 FeatureNameCollisionError: feature name `shared` is in both `clicks` and `score`; set full_feature_names to tell them apart
        "#]],
    );
    check(
        &request(features(&[]), &[user, item]),
        expect![[r#"
        400 FeastError: the request selects no features: name some in `features`, or a `feature_service`
    "#]],
    );
    check(
        &request(features(&["clicks:count"]), &[user]),
        expect![[r#"
            400 RequestDataNotFoundInEntityRowsException: missing entity column `item`, needed by `clicks`; the request has `user`
        "#]],
    );
    check(
        &request(features(&["clicks:count"]), &[("user", &[text("x")]), item]),
        expect![[r#"
            400 FeastError: entity column `user`, row 0: expected int64, found the text `x`
        "#]],
    );
    check(
        &request(features(&["clicks:count"]), &[("user", &[Value::Int(1), Value::Int(2)]), item]),
        expect![[r#"
            400 FeastError: entity columns have different lengths: `user` has 2, `item` has 1
        "#]],
    );
    check(
        &request(features(&["clicks:count"]), &[]),
        expect![[r#"
        400 FeastError: the request has no entity rows: `entities` must hold at least one column with one value
    "#]],
    );
    check(
        &request(features(&["clicks:count"]), &[("user", &[])]),
        expect![[r#"
        400 FeastError: the request has no entity rows: `entities` must hold at least one column with one value
    "#]],
    );
}

#[test]
fn a_host_refuses_what_is_beyond_its_limits() {
    let (snapshot, _) = example();
    let users: Vec<Value> = (0..10).map(Value::Int).collect();
    let items: Vec<Value> = (0..10).map(|_| text("a")).collect();
    let request = request(features(&["clicks:count"]), &[("user", &users), ("item", &items)]);
    let refusal = |limits: Limits| {
        let refused = snapshot.plan(&request, Timestamp::EPOCH, &limits).expect_err("it is beyond the limits");
        assert_eq!(refused.http_status(), 413);
        refused.to_string()
    };
    expect!["the request needs 10 entity rows, this host allows 9; split the request"]
        .assert_eq(&refusal(Limits::server().with_entities_max(9)));
    expect!["the request needs 30 values, this host allows 29; ask for fewer entities or features at once"]
        .assert_eq(&refusal(Limits::server().with_values_max(29)));
    expect!["the request needs 4 page reads, this host allows 3; ask for fewer entities at once"]
        .assert_eq(&refusal(Limits::server().with_pages_max(3)));
    assert!(snapshot.plan(&request, Timestamp::EPOCH, &Limits::server().with_pages_max(4)).is_ok());
}

#[test]
fn a_missing_page_is_named_and_a_wrong_count_refused() {
    let (snapshot, mut pages) = example();
    let request = request(features(&["clicks:count"]), &[("user", &[Value::Int(1)]), ("item", &[text("a")])]);
    let plan = snapshot.plan(&request, Timestamp::EPOCH, &Limits::server()).expect("the request fits");
    assert_eq!(plan.pages().len(), 2);
    pages.remove(&plan.pages()[0]);
    assert_eq!(answer(&plan, &pages).err(), Some(AnswerError::MissingPage { page: plan.pages()[0] }));
    assert_eq!(plan.answer(&[]).err(), Some(AnswerError::PageCount { expected: 2, found: 0 }));
}

#[test]
fn a_time_shift_moves_event_times_and_nothing_else() {
    let mut pages = Pages::new();
    let mut base = write_segment(7, 4, vec![row(4, "a", Some((899, Some(40))), Some((1, Some(1.0))))], &mut pages);
    base.time_shifts[0] = Span::from_seconds(50);
    let snapshot = snapshot(&manifest(Some(base), None));
    let request = request(features(&["clicks:count", "score:value"]), &[("user", &[Value::Int(4)]), ("item", &[text("a")])]);
    let plan = snapshot.plan(&request, Timestamp::from_seconds(1000), &Limits::server()).expect("the request fits");
    expect![[r#"
        user | Int(4) PRESENT 0
        item | String("a") PRESENT 0
        count | 40 PRESENT 949
        value | 1 PRESENT 1
    "#]]
    .assert_eq(&show(&answer(&plan, &pages).expect("all pages are there")));
}

#[test]
fn a_table_that_was_never_materialised_has_no_rows() {
    let snapshot = snapshot(&manifest(None, None));
    let request = request(features(&["clicks:count"]), &[("user", &[Value::Int(4)]), ("item", &[text("a")])]);
    let plan = snapshot.plan(&request, Timestamp::EPOCH, &Limits::server()).expect("the request fits");
    assert!(plan.pages().is_empty());
    assert_eq!(plan.answer(&[]).map(|response| response.rows[1].status), Ok(Status::NotFound));
}

#[test]
fn manifests_read_back_and_damage_is_found() {
    let (snapshot, _) = example();
    let bytes = snapshot.manifest().encode().expect("it is small");
    assert_eq!(Manifest::decode(&bytes).as_ref(), Ok(snapshot.manifest()));
    for end in 0..bytes.len() {
        assert!(Manifest::decode(&bytes[..end]).is_err(), "prefix {end}");
    }
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(Manifest::decode(&damaged).is_err(), "bit {bit}");
    }
}
