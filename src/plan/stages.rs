//! The stages of a file as a graph: order and reach. One node per stage, so that a matrix of a thousand copies
//! costs what one stage costs.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use petgraph::Direction;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::{Dfs, NodeFiltered, Reversed};

use crate::spec::Pipeline;

/// Edges go from a stage to what needs it; a node's index is the stage's position in the file.
pub(super) struct StageGraph(DiGraph<(), ()>);

impl StageGraph {
    /// The graph of a pipeline, hooks included.
    pub(super) fn of(pipeline: &Pipeline) -> Self {
        let mut graph = DiGraph::with_capacity(pipeline.stages.len(), pipeline.stages.len());
        for _ in pipeline.stages.values() {
            graph.add_node(());
        }
        for (position, stage) in pipeline.stages.values().enumerate() {
            for need in stage.needs.iter().filter_map(|need| pipeline.stages.get_index_of(need)) {
                graph.add_edge(NodeIndex::new(need), NodeIndex::new(position), ());
            }
        }
        Self(graph)
    }

    /// Every stage after all it needs, otherwise in file order.
    ///
    /// The reader has refused cycles; stages on one would be left out.
    pub(super) fn order(&self) -> Vec<usize> {
        let mut missing: Vec<usize> = self
            .0
            .node_indices()
            .map(|node| self.0.neighbors_directed(node, Direction::Incoming).count())
            .collect();
        // petgraph's own `toposort` is not stable; people expect the order of their file.
        let mut ready: BinaryHeap<Reverse<usize>> =
            (0..missing.len()).filter(|position| missing[*position] == 0).map(Reverse).collect();
        let mut order = Vec::with_capacity(missing.len());
        while let Some(Reverse(position)) = ready.pop() {
            order.push(position);
            for next in self.needed_by(position) {
                missing[next] -= 1;
                if missing[next] == 0 {
                    ready.push(Reverse(next));
                }
            }
        }
        order
    }

    /// Stages that need this one directly.
    pub(super) fn needed_by(&self, position: usize) -> impl Iterator<Item = usize> + '_ {
        self.0
            .neighbors_directed(NodeIndex::new(position), Direction::Outgoing)
            .map(NodeIndex::index)
    }

    /// The given stages and all that depends on them.
    pub(super) fn downstream(&self, of: impl Iterator<Item = usize>) -> Vec<bool> {
        let mut reached = vec![false; self.0.node_count()];
        let mut walk = Dfs::empty(&self.0);
        for position in of {
            walk.move_to(NodeIndex::new(position));
            while let Some(node) = walk.next(&self.0) {
                reached[node.index()] = true;
            }
        }
        reached
    }

    /// The given stages and all they need, never passing through what `keep` refuses.
    pub(super) fn upstream(
        &self,
        of: impl Iterator<Item = usize>,
        keep: impl Fn(usize) -> bool,
    ) -> Vec<bool> {
        let mut reached = vec![false; self.0.node_count()];
        let kept = NodeFiltered::from_fn(Reversed(&self.0), |node: NodeIndex| keep(node.index()));
        let mut walk = Dfs::empty(&kept);
        for position in of {
            walk.move_to(NodeIndex::new(position));
            while let Some(node) = walk.next(&kept) {
                reached[node.index()] = true;
            }
        }
        reached
    }
}
