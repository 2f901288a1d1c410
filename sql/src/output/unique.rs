//! Names of columns where no two may be the same.
//!
//! Invariant: a column keeps its name unless one before it has it; then it is the first of `name_1`, `name_2`, .. that no
//! column has.

use std::{collections::HashSet, sync::Arc};

use arrow::datatypes::{Field, Schema, SchemaRef};

/// The schema with names that differ.
pub(super) fn names(schema: SchemaRef) -> SchemaRef {
    let all: HashSet<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    if all.len() == schema.fields().len() {
        return schema;
    }
    let mut taken: HashSet<String> = HashSet::new();
    let mut fields: Vec<Arc<Field>> = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let name = field.name();
        if taken.insert(name.clone()) {
            fields.push(Arc::clone(field));
            continue;
        }
        let free = |name: &String| !taken.contains(name) && !all.contains(name);
        let renamed = (1..).map(|n: u64| format!("{name}_{n}")).find(free).unwrap_or_default();
        taken.insert(renamed.clone());
        fields.push(Arc::new(field.as_ref().clone().with_name(renamed)));
    }
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}
