//! On-demand feature views: features that are computed when they are asked for.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crate::bytes::{Read, Reader, Writer};
use crate::expression::{ExpressionColumn, LinkInput, Program, Values};
use crate::manifest::{Table, key_type_code, key_type_of, read_feature, write_feature};
use crate::pipeline::{Compute, Pipeline, PipelineView};
use crate::snapshot::ReadPlan;
use crate::{
    Cell, FeatureSchema, KeyType, Manifest, ManifestRequestSource, Physical, Response, RunTransforms, Timestamp, Transform,
    TransformId, TransformLimits, Value, ValueType, ViewFault, encode_payload,
};

/// A view whose features are computed from features of other views, request data, join keys and the request's time.
#[derive(Clone, Debug, PartialEq)]
pub struct OnDemandView {
    /// Its name.
    pub name: String,
    /// The columns that it is computed from, in order.
    pub inputs: Vec<OnDemandInput>,
    /// Its features, in the order in which they are computed.
    pub features: Vec<FeatureSchema>,
    /// What computes them.
    pub compute: Compute,
}

impl OnDemandView {
    /// Inputs, constants and steps that it has.
    pub(crate) fn register_count(&self) -> usize {
        match &self.compute {
            Compute::Program(program) => program.register_count(),
            Compute::Transform(_) => self.inputs.len() + self.features.len(),
        }
    }

    /// The component that computes it, if one does.
    pub const fn transform(&self) -> Option<&Transform> {
        match &self.compute {
            Compute::Program(_) => None,
            Compute::Transform(transform) => Some(transform),
        }
    }
}

/// A column that a view is computed from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnDemandInput {
    /// A feature of a view, null where its row is too old or not there.
    Feature {
        /// The table's number.
        table: u16,
        /// The view's number in the table.
        view: u16,
        /// The feature's number in the view.
        feature: u16,
    },
    /// A join key, as the request has it.
    JoinKey {
        /// The column of the request.
        name: String,
        /// Its type.
        key_type: KeyType,
    },
    /// The instant of the request; in training, that of the entity row.
    Now,
    /// A feature of an on-demand view before this one.
    OnDemand {
        /// The view's number.
        view: u16,
        /// The feature's number in the view.
        feature: u16,
    },
    /// A field of request data.
    Request {
        /// The request source's number.
        source: u16,
        /// The field's number.
        field: u16,
    },
}

/// The table's number that a service's projection of an on-demand view has.
pub const ON_DEMAND_TABLE: u16 = u16::MAX;

pub(crate) fn write_on_demand(out: &mut Writer, view: &OnDemandView) {
    out.string(&view.name);
    out.list(&view.inputs, |out, input| match input {
        OnDemandInput::Feature { table, view, feature } => {
            out.u8(1);
            [table, view, feature].into_iter().for_each(|number| out.u16(*number));
        }
        OnDemandInput::OnDemand { view, feature } => {
            out.u8(2);
            [view, feature].into_iter().for_each(|number| out.u16(*number));
        }
        OnDemandInput::Request { source, field } => {
            out.u8(3);
            [source, field].into_iter().for_each(|number| out.u16(*number));
        }
        OnDemandInput::JoinKey { name, key_type } => {
            out.u8(4);
            out.string(name);
            out.u8(key_type_code(*key_type));
        }
        OnDemandInput::Now => out.u8(5),
    });
    out.list(&view.features, write_feature);
    match &view.compute {
        Compute::Program(program) => {
            out.u8(1);
            program.write(out);
        }
        Compute::Transform(Transform { id, limits }) => {
            out.u8(2);
            out.raw(&id.bytes());
            out.u64(limits.fuel);
            [limits.memory_bytes, limits.output_bytes, limits.millis].into_iter().for_each(|limit| out.u32(limit));
        }
    }
}

/// Reads one, and checks that every number in it names something: `before` are the on-demand views before it.
pub(crate) fn read_on_demand(
    from: &mut Reader<'_>,
    tables: &[Table],
    request_sources: &[ManifestRequestSource],
    before: &[OnDemandView],
) -> Read<OnDemandView> {
    let name = from.string("view")?;
    let inputs = from.list("inputs", |from| {
        Ok(match from.u8("input")? {
            1 => {
                let (table, view, feature) = (from.u16("table number")?, from.u16("view number")?, from.u16("feature number")?);
                let schema = tables.get(usize::from(table)).and_then(|table| table.schema.views.get(usize::from(view)));
                schema
                    .and_then(|schema| schema.features.get(usize::from(feature)))
                    .ok_or_else(|| from.corrupt("feature number"))?;
                OnDemandInput::Feature { table, view, feature }
            }
            2 => {
                let (view, feature) = (from.u16("view number")?, from.u16("feature number")?);
                let known = before.get(usize::from(view)).and_then(|view| view.features.get(usize::from(feature)));
                known.ok_or_else(|| from.corrupt("feature number"))?;
                OnDemandInput::OnDemand { view, feature }
            }
            3 => {
                let (source, field) = (from.u16("request source")?, from.u16("field")?);
                let known = request_sources.get(usize::from(source)).and_then(|source| source.fields.get(usize::from(field)));
                known.ok_or_else(|| from.corrupt("field"))?;
                OnDemandInput::Request { source, field }
            }
            4 => {
                let name = from.string("join key")?;
                let code = from.u8("key type")?;
                OnDemandInput::JoinKey { name, key_type: key_type_of(code).ok_or_else(|| from.corrupt("key type"))? }
            }
            5 => OnDemandInput::Now,
            _ => return Err(from.corrupt("input")),
        })
    })?;
    let features = from.list("features", read_feature)?;
    let compute = match from.u8("compute")? {
        1 => {
            let program = Program::read(from)?;
            if program.input_count() != inputs.len() || program.outputs().len() != features.len() {
                return Err(from.corrupt("program"));
            }
            Compute::Program(program)
        }
        2 => {
            let id = TransformId::from_bytes(from.array("transform")?);
            let limits = TransformLimits {
                fuel: from.u64("fuel")?,
                memory_bytes: from.u32("memory")?,
                output_bytes: from.u32("output")?,
                millis: from.u32("time")?,
            };
            Compute::Transform(Transform { id, limits })
        }
        _ => return Err(from.corrupt("compute")),
    };
    Ok(OnDemandView { name, inputs, features, compute })
}

impl Manifest {
    /// The type of an input.
    fn type_of(&self, input: &OnDemandInput) -> ValueType {
        let feature = match input {
            OnDemandInput::Feature { table, view, feature } => {
                let view = self.tables.get(usize::from(*table)).and_then(|table| table.schema.views.get(usize::from(*view)));
                view.and_then(|view| view.features.get(usize::from(*feature)))
            }
            OnDemandInput::OnDemand { view, feature } => {
                self.on_demand_views.get(usize::from(*view)).and_then(|view| view.features.get(usize::from(*feature)))
            }
            OnDemandInput::Request { source, field } => {
                self.request_sources.get(usize::from(*source)).and_then(|source| source.fields.get(usize::from(*field)))
            }
            OnDemandInput::JoinKey { key_type, .. } => return key_type.value_type(),
            OnDemandInput::Now => None,
        };
        feature.map_or(ValueType::UnixTimestamp, |feature| feature.value_type.clone())
    }

    /// Which on-demand views are made of nothing but tables that anyone may hold.
    pub(crate) fn public_on_demand(&self, is_public: impl Fn(u16) -> bool) -> Vec<bool> {
        let mut public: Vec<bool> = Vec::with_capacity(self.on_demand_views.len());
        for view in &self.on_demand_views {
            let all = view.inputs.iter().all(|input| match input {
                OnDemandInput::Feature { table, .. } => is_public(*table),
                OnDemandInput::OnDemand { view, .. } => public.get(usize::from(*view)).copied().unwrap_or(false),
                OnDemandInput::JoinKey { .. } | OnDemandInput::Now | OnDemandInput::Request { .. } => true,
            });
            public.push(all);
        }
        public
    }

    /// This manifest with some of its on-demand views, which get other numbers; all that names one of them stays in it.
    pub(crate) fn with_on_demand(mut self, kept: &[bool]) -> Self {
        let is_kept = |number: usize| kept.get(number) == Some(&true);
        let renumbered = |number: u16| (0..usize::from(number)).filter(|number| is_kept(*number)).count() as u16;
        let mut number = 0;
        self.on_demand_views.retain(|_| {
            number += 1;
            is_kept(number - 1)
        });
        for view in &mut self.on_demand_views {
            for input in &mut view.inputs {
                if let OnDemandInput::OnDemand { view, .. } = input {
                    *view = renumbered(*view);
                }
            }
        }
        let projections = self.services.iter_mut().flat_map(|service| &mut service.projections);
        for projection in projections.filter(|projection| projection.table == ON_DEMAND_TABLE) {
            projection.view = renumbered(projection.view);
        }
        self
    }
}

/// What computes all on-demand features of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Linked {
    pub(crate) pipeline: Pipeline,
    inputs: Vec<LinkedInput>,
    pub(crate) uses_now: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum LinkedInput {
    /// The values of a hidden column: its number among them.
    Hidden {
        column: usize,
        physical: Physical,
    },
    /// The values of a column of the request.
    Request {
        name: String,
        value_type: ValueType,
    },
    Now,
}

impl ReadPlan {
    /// Links what the groups of on-demand views need, and adds the groups that their inputs come from.
    pub(crate) fn link(&mut self, manifest: &Manifest) {
        let groups = self.groups.iter().filter(|group| group.table == ON_DEMAND_TABLE);
        let outputs: Vec<(usize, usize)> =
            groups.flat_map(|group| group.features.iter().map(|feature| (usize::from(group.view), feature.number))).collect();
        if outputs.is_empty() {
            return;
        }
        // The columns that programs take, each once, by number.
        let mut known: Vec<&OnDemandInput> = Vec::new();
        let mut views: Vec<PipelineView<'_>> = Vec::with_capacity(manifest.on_demand_views.len());
        for view in &manifest.on_demand_views {
            let mut inputs = Vec::with_capacity(view.inputs.len());
            for input in &view.inputs {
                inputs.push(match input {
                    OnDemandInput::OnDemand { view, feature } => {
                        LinkInput::Output { program: usize::from(*view), output: usize::from(*feature) }
                    }
                    input => {
                        let at = known.iter().position(|known| *known == input).unwrap_or(known.len());
                        if at == known.len() {
                            known.push(input);
                        }
                        LinkInput::Column(at as u32)
                    }
                });
            }
            let input_types = match view.compute {
                Compute::Program(_) => Vec::new(),
                Compute::Transform(_) => view.inputs.iter().map(|input| manifest.type_of(input)).collect(),
            };
            views.push(PipelineView { compute: &view.compute, inputs, input_types, features: &view.features, mask: None });
        }
        // It is there and fits: the manifest was checked for that.
        let pipeline = Pipeline::link(&views, &outputs).unwrap_or_default();
        let wanted: Vec<&OnDemandInput> =
            pipeline.columns().iter().filter_map(|column| known.get(*column as usize).copied()).collect();
        // What is read only for this: by view, so that a view is one group.
        let mut hidden: Vec<(u16, u16, u16)> = Vec::new();
        for input in &wanted {
            if let OnDemandInput::Feature { table, view, feature } = input {
                let behind = hidden.iter().rposition(|(of, in_it, _)| (of, in_it) == (table, view));
                hidden.insert(behind.map_or(hidden.len(), |at| at + 1), (*table, *view, *feature));
            }
        }
        let mut inputs = Vec::with_capacity(wanted.len());
        for input in wanted {
            inputs.push(match input {
                OnDemandInput::Feature { table, view, feature } => {
                    let column = hidden.iter().position(|column| *column == (*table, *view, *feature)).unwrap_or(usize::MAX);
                    let schema = manifest
                        .tables
                        .get(usize::from(*table))
                        .and_then(|table| table.schema.views.get(usize::from(*view))?.features.get(usize::from(*feature)));
                    let physical = schema.map_or(Physical::Bytes, |schema| schema.value_type.physical());
                    LinkedInput::Hidden { column, physical }
                }
                OnDemandInput::JoinKey { name, key_type } => self.request_input(name, &key_type.value_type()),
                OnDemandInput::Request { source, field } => {
                    let source = manifest.request_sources.get(usize::from(*source));
                    match source.and_then(|source| source.fields.get(usize::from(*field))) {
                        Some(field) => self.request_input(&field.name, &field.value_type),
                        None => LinkedInput::Now,
                    }
                }
                OnDemandInput::Now | OnDemandInput::OnDemand { .. } => LinkedInput::Now,
            });
        }
        let uses_now = inputs.iter().any(|input| matches!(input, LinkedInput::Now));
        for group in hidden.chunk_by(|first, second| (first.0, first.1) == (second.0, second.1)) {
            let Some((table, view, _)) = group.first() else { continue };
            self.add(manifest, (*table, *view), None, &[], group.iter().map(|(_, _, feature)| usize::from(*feature)));
            if let Some(group) = self.groups.last_mut() {
                group.hidden = true;
            }
        }
        self.linked = Some(Linked { pipeline, inputs, uses_now });
    }

    /// A column of the request, which it then has to have.
    fn request_input(&mut self, name: &str, value_type: &ValueType) -> LinkedInput {
        self.need_request_field(name, value_type);
        LinkedInput::Request { name: name.into(), value_type: value_type.clone() }
    }

    fn need_request_field(&mut self, name: &str, value_type: &ValueType) {
        if !self.request_fields.iter().any(|field| field.name == name) {
            let field = crate::snapshot::RequestField { name: name.into(), value_type: value_type.clone(), echoed: false };
            self.request_fields.push(field);
        }
    }
}

/// Columns of a request, and what its plan read.
pub(crate) struct Given<'g> {
    pub(crate) manifest: &'g Manifest,
    pub(crate) rows: usize,
    pub(crate) now: Timestamp,
    /// The cells of the hidden groups, column by column.
    pub(crate) hidden: &'g [Cell<'g>],
    /// A column of the request by its name.
    pub(crate) request: &'g dyn Fn(&str) -> Option<&'g [Value]>,
}

impl Linked {
    /// Computes the columns of the groups of on-demand views, in their order, and puts them into a response at `at`: for each
    /// column where its first cell is.
    pub(crate) fn compute(
        &self,
        given: &Given<'_>,
        transforms: &dyn RunTransforms,
        types: &[(&ValueType, usize)],
        response: &mut Response<'_>,
    ) {
        let inputs = self.inputs.iter().map(|input| match input {
            LinkedInput::Now => ExpressionColumn::ints(vec![given.now.nanos(); given.rows], None),
            LinkedInput::Hidden { column, physical } => {
                let start = column * given.rows;
                let cells = given.hidden.get(start..start + given.rows).unwrap_or_default();
                column_of(*physical, given.rows, cells.iter().copied())
            }
            LinkedInput::Request { name, value_type } => match (given.request)(name) {
                Some(values) => column_of_values(value_type, values),
                None => ExpressionColumn::null(),
            },
        });
        let made = self.pipeline.run(inputs.collect(), given.rows, transforms);
        for (view, fault) in made.faults {
            let view = given.manifest.on_demand_views.get(view).map(|view| view.name.clone()).unwrap_or_default();
            response.faults.push(ViewFault { view, fault });
        }
        for (column, (value_type, at)) in made.columns.iter().zip(types) {
            let Some(column) = column else {
                response.cells.get_mut(*at..at + given.rows).unwrap_or_default().fill(Cell::Failed);
                continue;
            };
            for row in 0..given.rows {
                let cell = match value_type.physical() {
                    Physical::Int => column.int(row).map(Cell::Int),
                    Physical::Float32 => column.float(row).map(|value| Cell::Float32(value as f32)),
                    Physical::Float64 => column.float(row).map(Cell::Float64),
                    Physical::Bytes => column.bytes(row).and_then(|bytes| {
                        let start = u32::try_from(response.made.len()).ok()?;
                        let end = u32::try_from(response.made.len() + bytes.len()).ok()?;
                        response.made.extend_from_slice(bytes);
                        Some(Cell::Made { start, end })
                    }),
                };
                if let (Some(slot), Some(cell)) = (response.cells.get_mut(at + row), cell) {
                    *slot = cell;
                }
            }
        }
    }
}

impl Response<'_> {
    /// The values of a column of it, as expressions compute with them.
    pub fn expression_column(&self, number: usize) -> ExpressionColumn<'static> {
        let Some(column) = self.columns.get(number) else { return ExpressionColumn::null() };
        let start = number * self.row_count;
        let cells = self.cells.get(start..start + self.row_count).unwrap_or_default();
        if let Some(Cell::Request(_)) = cells.iter().find(|cell| !matches!(cell, Cell::Null)) {
            let values: Vec<Value> =
                cells.iter().map(|cell| if let Cell::Request(value) = cell { (*value).clone() } else { Value::Null }).collect();
            return column_of_values(column.value_type, &values);
        }
        column_of(column.value_type.physical(), self.row_count, cells.iter().map(|cell| whole(*cell, &self.made)))
    }
}

impl ExpressionColumn<'static> {
    /// Values of a type as expressions compute with them; what is of another type is null.
    pub fn of_values(value_type: &ValueType, values: &[Value]) -> Self {
        column_of_values(value_type, values)
    }
}

/// A cell with its payload, where that is among those that were made.
fn whole<'c>(cell: Cell<'c>, made: &'c [u8]) -> Cell<'c> {
    match cell {
        Cell::Made { start, end } => Cell::Bytes(made.get(start as usize..end as usize).unwrap_or_default()),
        cell => cell,
    }
}

/// A column of cells of one physical form.
fn column_of<'c>(physical: Physical, rows: usize, cells: impl Iterator<Item = Cell<'c>>) -> ExpressionColumn<'static> {
    let mut column = ColumnBuilder::new(rows);
    for cell in cells {
        match (physical, cell) {
            (Physical::Int, Cell::Int(value)) => column.int(value),
            (Physical::Float32, Cell::Float32(value)) => column.float(f64::from(value)),
            (Physical::Float64, Cell::Float64(value)) => column.float(value),
            (Physical::Bytes, Cell::Bytes(bytes)) => column.bytes(bytes),
            _ => column.null(),
        }
    }
    column.finish(physical)
}

/// A column of values of the request, which have been brought to their type.
fn column_of_values(value_type: &ValueType, values: &[Value]) -> ExpressionColumn<'static> {
    let mut column = ColumnBuilder::new(values.len());
    let mut payload = Vec::new();
    for value in values {
        match value {
            Value::Bool(value) => column.int(i64::from(*value)),
            Value::Int(value) => column.int(*value),
            Value::Float32(value) => column.float(f64::from(*value)),
            Value::Float64(value) => column.float(*value),
            Value::Null => column.null(),
            value => {
                payload.clear();
                match encode_payload(value_type, value, &mut payload) {
                    Ok(()) => column.bytes(&payload),
                    Err(_) => column.null(),
                }
            }
        }
    }
    column.finish(value_type.physical())
}

/// Values of one lane in the making.
struct ColumnBuilder {
    ints: Vec<i64>,
    floats: Vec<f64>,
    offsets: Vec<u32>,
    data: Vec<u8>,
    valid: Vec<u8>,
    rows: usize,
    nulls: bool,
}

impl ColumnBuilder {
    fn new(rows: usize) -> Self {
        let valid = Vec::with_capacity(rows);
        Self { ints: Vec::new(), floats: Vec::new(), offsets: vec![0], data: Vec::new(), valid, rows, nulls: false }
    }

    fn int(&mut self, value: i64) {
        // A null before it may have been of no lane yet.
        self.ints.resize(self.valid.len(), 0);
        self.ints.push(value);
        self.valid.push(1);
    }

    fn float(&mut self, value: f64) {
        self.floats.resize(self.valid.len(), 0.0);
        self.floats.push(value);
        self.valid.push(1);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.offsets.resize(self.valid.len() + 1, self.data.len() as u32);
        self.data.extend_from_slice(bytes);
        self.offsets.push(self.data.len() as u32);
        self.valid.push(1);
    }

    fn null(&mut self) {
        self.valid.push(0);
        self.nulls = true;
    }

    fn finish(mut self, physical: Physical) -> ExpressionColumn<'static> {
        let valid = if self.nulls { Some(self.valid.into()) } else { None };
        let values = match physical {
            Physical::Int => {
                self.ints.resize(self.rows, 0);
                Values::Int(self.ints.into())
            }
            Physical::Float32 | Physical::Float64 => {
                self.floats.resize(self.rows, 0.0);
                Values::Float(self.floats.into())
            }
            Physical::Bytes => {
                self.offsets.resize(self.rows + 1, self.data.len() as u32);
                Values::Bytes { offsets: self.offsets, data: self.data.into(), constant: false }
            }
        };
        ExpressionColumn { values, valid }
    }
}
