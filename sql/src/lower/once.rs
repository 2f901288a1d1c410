//! Rows that are changes, from a carrier that may repeat them: each goes on once, over restarts too.
//!
//! The steps of a query stay in the source's task, and what tells a change from others comes along behind its columns; an
//! operator, to which rows are exchanged by that, leaves out what it knows.
//!
//! Invariant: what a source's rows carry for a sink passes through that operator.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use headwater_engine::{
    connector::Carries,
    error::{Error, Result},
    graph::{Branch, BranchInput, Exchange, Input, Lateness, NodeId, NodeKind, Step},
    operators::in_order::InOrder,
};

use super::{flow::Lowering, sources};

impl Lowering {
    /// Where in a source's rows what tells them apart stands: the name of a change and its order.
    pub(super) fn tells(&self, source: usize) -> Result<Option<[&'static str; 2]>> {
        let table = self.sources[source].table()?;
        Ok(sources::change_id(table)?.zip(sources::change_order(table)?).map(|(id, order)| [id, order]))
    }

    /// A branch of a source and the operator that lets each of its changes through once.
    pub(super) fn once(
        &mut self,
        source: usize,
        steps: Vec<Step>,
        schema: &SchemaRef,
        lateness: Option<Lateness>,
    ) -> Result<Input> {
        let names = self.tells(source)?.unwrap_or_default();
        let (read, width) = (self.sources[source].kept.len(), schema.fields().len());
        let schema = sources::with_names(schema, &names);
        let branch = Branch {
            insert: self.insert.clone(),
            input: BranchInput::Rows,
            of: None,
            steps,
            lateness,
            holds: false,
            local: Vec::new(),
            tells: vec![read, read + 1],
            carries: Carries::Nothing,
            schema: Arc::clone(&schema),
        };
        let from = self.branch(source, branch, Exchange::Hash(vec![width]));
        let id = self.add_operator(from, Arc::new(InOrder::once(width, width + 1, schema)?));
        Ok(Input { from: id, branch: 0, exchange: Exchange::Forward })
    }

    /// Lets something come along with the rows of a source's branch that an input takes.
    pub(super) fn carry(&mut self, source: usize, input: &Input, carries: Carries) -> Result<Carries> {
        let sources = self.sources.len();
        let Some(behind) = input.from.0.checked_sub(sources) else {
            self.branch_carries(source, input.branch, carries);
            return Ok(carries);
        };
        let Some((_, NodeKind::Operator(node))) = self.nodes.get(behind) else {
            return Err(Error::internal("rows come from no operator"));
        };
        let [Input { from: NodeId(from), branch, exchange: Exchange::Hash(name) }] = node.inputs.as_slice() else {
            return Err(Error::internal("rows of a source come through an operator that is none of theirs"));
        };
        let (branch, name) = (*branch, name.first().copied().filter(|_| *from == source));
        let name = name.ok_or_else(|| Error::internal("rows come from another source"))?;
        let schema = self.branch_carries(source, branch, carries);
        if let Some((_, NodeKind::Operator(node))) = self.nodes.get_mut(behind) {
            node.operator = Arc::new(InOrder::once(name, name + 1, schema)?);
        }
        Ok(carries)
    }

    fn branch_carries(&mut self, source: usize, branch: usize, carries: Carries) -> SchemaRef {
        let branch = &mut self.sources[source].branches[branch];
        branch.carries = carries;
        branch.schema = carries.extend(&branch.schema);
        Arc::clone(&branch.schema)
    }
}
