//! Components of on-demand views: what they say of themselves, beside what the definitions say of them.

use mezze_core::{FeatureSchema, TransformId};

use crate::definitions::Definitions;
use crate::on_demand::on_demand_program;
use crate::problem::Problem;

/// A component as it is in its file.
#[derive(Clone, Debug, PartialEq)]
pub struct DescribedTransform {
    /// The digest of its bytes.
    pub id: TransformId,
    /// The columns that it takes.
    pub inputs: Vec<FeatureSchema>,
    /// The features that it computes.
    pub outputs: Vec<FeatureSchema>,
}

/// Asks the component of each view, by its path, what it takes and gives, compares that with the definitions, and puts digest and
/// inputs into them. Returns what is wrong.
pub fn describe_transforms(
    definitions: &mut Definitions,
    describe: &mut dyn FnMut(&str) -> Result<DescribedTransform, String>,
) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut add = |message: String| found.push(Problem { place: String::new(), message });
    let mut described: Vec<String> = Vec::new();
    for view in &mut definitions.on_demand_feature_views {
        let Some(transform) = &mut view.transform else { continue };
        let of = format!("the transform of `{}`, {}", view.name, transform.component);
        let component = match describe(&transform.component) {
            Ok(component) => component,
            Err(error) => {
                add(format!("{of}: {error}"));
                continue;
            }
        };
        if let Some(pinned) = transform.id.filter(|pinned| *pinned != component.id) {
            add(format!("{of}: its digest is {}, the definition wants {pinned}", component.id));
            continue;
        }
        let declared: Vec<&FeatureSchema> = view.features.iter().map(|feature| &feature.schema).collect();
        if !declared.iter().copied().eq(&component.outputs) {
            let list = |fields: &mut dyn Iterator<Item = &FeatureSchema>| {
                fields.map(|field| format!("{} {}", field.name, field.value_type)).collect::<Vec<_>>().join(", ")
            };
            add(format!(
                "{of}: it computes {}; the view's schema is {}",
                list(&mut component.outputs.iter()),
                list(&mut declared.into_iter())
            ));
            continue;
        }
        transform.id = Some(component.id);
        transform.inputs = component.inputs;
        described.push(view.name.clone());
    }
    for view in definitions.on_demand_feature_views.iter().filter(|view| described.contains(&view.name)) {
        for (_, message) in on_demand_program(definitions, view).err().unwrap_or_default() {
            add(message);
        }
    }
    found
}
