//! Choosing some of many candidates so that no group exceeds its room. Each candidate lies in groups of several kinds
//! at once (for example an operator and a zone), and the kinds cross. Pure, with numbers only.
//!
//! With two chains of nested kinds, this is a maximum-flow problem: source -> coarse group -> fine group -> cell ->
//! fine group of the other chain -> coarse group -> sink. A cell is the set of candidates in the same groups.
//! Augmenting paths find a choice, or the minimum cut that leaves no room for one. Then candidates are fixed in the
//! order of preference, as long as the remaining flow can be rerouted. So the choice is exact: the first candidate is
//! chosen if any choice contains it, the second if any choice with the first contains it, and so on.
//!
//! With three kinds, none nested in another, the question is NP-hard (three-dimensional matching). Then the search
//! looks ahead for two of them and only respects the third. So it may miss a choice, but it never returns a wrong one.

use std::collections::{HashMap, VecDeque};

/// A kind of group: the group of each candidate, and how many candidates of each group may be chosen.
#[derive(Debug, Clone)]
pub(super) struct Family {
    pub(super) of: Vec<usize>,
    pub(super) room: Vec<usize>,
}

/// Why no choice was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoChoice {
    /// The groups leave room for only `room`. The full ones are listed as (family, group).
    Full { room: usize, groups: Vec<(usize, usize)> },
    /// The kinds cross in three ways, and no choice was found.
    Tangled,
}

/// Chooses `need` of the candidates, which are given in the order of preference. Costs at most one search of the cells
/// for each candidate, and that only where groups are scarce.
pub(super) fn choose(families: &[Family], candidates: usize, need: usize) -> Result<Vec<usize>, NoChoice> {
    let mut flow = Flow::new(families, candidates, need);
    flow.fill(need)?;
    flow.fix(families, need)
}

/// Returns whether `need` candidates can be chosen, as far as [`choose`] looks ahead.
pub(super) fn fits(families: &[Family], candidates: usize, need: usize) -> bool {
    Flow::new(families, candidates, need).fill(need).is_ok()
}

const SOURCE: usize = 0;
const SINK: usize = 1;

/// An arc. Its reverse arc has the neighbouring number (`arc ^ 1`).
type Arc = usize;

struct Flow {
    /// For each arc, its target vertex and its residual capacity. The flow on an arc is the residual capacity of its
    /// reverse.
    to: Vec<usize>,
    room: Vec<usize>,
    /// The arcs that leave each vertex.
    leaving: Vec<Vec<Arc>>,
    cells: Vec<Cell>,
    /// The cell of each candidate.
    cell_of: Vec<usize>,
    /// The family and group of each group arc.
    group_of: HashMap<Arc, (usize, usize)>,
    /// Families outside the flow, whose room is only respected.
    watched: Vec<usize>,
}

struct Cell {
    arc: Arc,
    /// The arcs from source to sink through this cell, including its own.
    way: Vec<Arc>,
    /// No choice can contain more of this cell than is already fixed.
    is_settled: bool,
}

impl Flow {
    fn new(families: &[Family], candidates: usize, need: usize) -> Self {
        let (before, after, watched) = arrange(families, candidates, need);
        let mut it = Self {
            to: Vec::new(),
            room: Vec::new(),
            leaving: vec![Vec::new(); 2],
            cells: Vec::new(),
            cell_of: Vec::with_capacity(candidates),
            group_of: HashMap::new(),
            watched,
        };
        let mut groups: HashMap<(usize, usize), (Arc, usize)> = HashMap::new();
        let mut cells: HashMap<Vec<usize>, usize> = HashMap::new();
        for candidate in 0..candidates {
            let key = before.iter().chain(&after).map(|family| families[*family].of[candidate]).collect();
            let cell = *cells.entry(key).or_insert_with(|| {
                let mut way = Vec::new();
                let mut ends = [SOURCE, SINK];
                for (end, side) in [&before, &after].into_iter().enumerate() {
                    for family in side {
                        let group = families[*family].of[candidate];
                        let (arc, inner) = *groups.entry((*family, group)).or_insert_with(|| {
                            it.leaving.push(Vec::new());
                            let (inner, room) = (it.leaving.len() - 1, families[*family].room[group]);
                            let (from, to) = if end == 0 { (ends[end], inner) } else { (inner, ends[end]) };
                            let arc = it.connect(from, to, room);
                            it.group_of.insert(arc, (*family, group));
                            (arc, inner)
                        });
                        ends[end] = inner;
                        way.push(arc);
                    }
                }
                let arc = it.connect(ends[0], ends[1], 0);
                way.push(arc);
                it.cells.push(Cell { arc, way, is_settled: false });
                it.cells.len() - 1
            });
            it.room[it.cells[cell].arc] += 1;
            it.cell_of.push(cell);
        }
        it
    }

    fn connect(&mut self, from: usize, to: usize, room: usize) -> Arc {
        let arc = self.to.len();
        self.to.extend([to, from]);
        self.room.extend([room, 0]);
        self.leaving[from].push(arc);
        self.leaving[to].push(arc + 1);
        arc
    }

    fn push(&mut self, way: &[Arc]) {
        for arc in way {
            self.room[*arc] -= 1;
            self.room[arc ^ 1] += 1;
        }
    }

    /// Makes a flow of `need`: first greedily along the candidates in order, then by augmenting paths.
    fn fill(&mut self, need: usize) -> Result<(), NoChoice> {
        let mut flow = 0;
        for candidate in 0..self.cell_of.len() {
            if flow == need {
                return Ok(());
            }
            let way = &self.cells[self.cell_of[candidate]].way;
            if way.iter().all(|arc| self.room[*arc] > 0) {
                let way = way.clone();
                self.push(&way);
                flow += 1;
            }
        }
        while flow < need {
            match self.path(SOURCE, SINK) {
                Ok(path) => self.push(&path),
                Err(reached) => {
                    let is_cut = |arc: &Arc| reached[self.to[arc ^ 1]] && !reached[self.to[*arc]];
                    let mut groups: Vec<_> =
                        self.group_of.iter().filter(|(arc, _)| is_cut(arc)).map(|(_, group)| *group).collect();
                    groups.sort_unstable();
                    return Err(NoChoice::Full { room: flow, groups });
                }
            }
            flow += 1;
        }
        Ok(())
    }

    /// Turns a flow of `need` into the chosen candidates.
    fn fix(&mut self, families: &[Family], need: usize) -> Result<Vec<usize>, NoChoice> {
        let mut left: Vec<Vec<usize>> = self.watched.iter().map(|family| families[*family].room.clone()).collect();
        let mut chosen = Vec::with_capacity(need);
        for candidate in 0..self.cell_of.len() {
            if chosen.len() == need {
                break;
            }
            let watched: Vec<usize> = self.watched.iter().map(|family| families[*family].of[candidate]).collect();
            let cell = self.cell_of[candidate];
            if self.cells[cell].is_settled || watched.iter().zip(&left).any(|(group, left)| left[*group] == 0) {
                continue;
            }
            let arc = self.cells[cell].arc;
            // If more flows through the cell than is fixed, this candidate takes it. Otherwise the flow must be
            // rerouted from elsewhere.
            if self.room[arc ^ 1] == 0 {
                match self.path(self.to[arc], self.to[arc ^ 1]) {
                    Ok(mut path) => {
                        path.push(arc);
                        self.push(&path);
                    }
                    Err(reached) => {
                        self.settle(&reached, &self.reaching(self.to[arc ^ 1]));
                        continue;
                    }
                }
            }
            for (group, left) in watched.iter().zip(&mut left) {
                left[*group] -= 1;
            }
            // From now on no path can take this unit back.
            self.room[arc ^ 1] -= 1;
            chosen.push(candidate);
        }
        if chosen.len() == need { Ok(chosen) } else { Err(NoChoice::Tangled) }
    }

    /// Settles all cells that a failed search shows to be closed. A cell is closed if its end was reached but not its
    /// beginning, or if its beginning leads to the target but its end does not. Fixing more candidates never opens such
    /// a cell again.
    fn settle(&mut self, reached: &[bool], reaching: &[bool]) {
        for cell in &mut self.cells {
            let (begin, end) = (self.to[cell.arc ^ 1], self.to[cell.arc]);
            cell.is_settled |= reached[end] && !reached[begin] || reaching[begin] && !reaching[end];
        }
    }

    /// Returns the vertices from which `to` can be reached along arcs with room.
    fn reaching(&self, to: usize) -> Vec<bool> {
        let mut reaching = vec![false; self.leaving.len()];
        reaching[to] = true;
        let mut next = vec![to];
        while let Some(at) = next.pop() {
            for arc in &self.leaving[at] {
                let there = self.to[*arc];
                if self.room[arc ^ 1] > 0 && !reaching[there] {
                    reaching[there] = true;
                    next.push(there);
                }
            }
        }
        reaching
    }

    /// Returns a shortest path along arcs with room, or else all vertices that can be reached.
    fn path(&self, from: usize, to: usize) -> Result<Vec<Arc>, Vec<bool>> {
        let mut reached = vec![false; self.leaving.len()];
        let mut by: Vec<Arc> = vec![0; self.leaving.len()];
        let mut next = VecDeque::from([from]);
        reached[from] = true;
        while let Some(at) = next.pop_front() {
            if at == to {
                let mut path = Vec::new();
                let mut at = to;
                while at != from {
                    path.push(by[at]);
                    at = self.to[by[at] ^ 1];
                }
                return Ok(path);
            }
            for arc in &self.leaving[at] {
                let there = self.to[*arc];
                if self.room[*arc] > 0 && !reached[there] {
                    reached[there] = true;
                    by[there] = *arc;
                    next.push_back(there);
                }
            }
        }
        Err(reached)
    }
}

/// Sorts families into two chains, each from coarse to fine, and a rest that fits on neither. A family that has room
/// for all is left out.
fn arrange(families: &[Family], candidates: usize, need: usize) -> (Vec<usize>, Vec<usize>, Vec<usize>) {
    let is_binding = |family: &Family| {
        let mut members = vec![0; family.room.len()];
        family.of[..candidates].iter().for_each(|group| members[*group] += 1);
        members.into_iter().zip(&family.room).any(|(members, room)| *room < need.min(members))
    };
    let binding: Vec<usize> = (0..families.len()).filter(|family| is_binding(&families[*family])).collect();
    let count = binding.len();
    let named = |side: Vec<usize>| side.into_iter().map(|at| binding[at]).collect();
    let finer_than =
        |fine: usize| binding.iter().map(move |coarse| is_finer(&families[fine], &families[*coarse], candidates));
    let finer: Vec<Vec<bool>> = binding.iter().map(|fine| finer_than(*fine).collect()).collect();
    let chain = |mask: usize| {
        let mut side: Vec<usize> = (0..count).filter(|family| mask >> family & 1 == 1).collect();
        // The finer of two families is nested in more others.
        side.sort_by_key(|family| side_rank(&finer, *family, mask));
        side.windows(2).all(|pair| finer[pair[1]][pair[0]]).then_some(side)
    };
    let all = (1usize << count) - 1;
    let mut masks: Vec<usize> = (0..=all).collect();
    masks.sort_by_key(|mask| std::cmp::Reverse(mask.count_ones()));
    for kept in masks {
        let sides = (0..=all).filter(|mask| mask & !kept == 0);
        if let Some((before, after)) = sides.into_iter().find_map(|mask| Some((chain(mask)?, chain(kept & !mask)?))) {
            return (named(before), named(after), named((0..count).filter(|family| kept >> family & 1 == 0).collect()));
        }
    }
    (Vec::new(), Vec::new(), binding)
}

fn side_rank(finer: &[Vec<bool>], family: usize, mask: usize) -> usize {
    (0..finer.len()).filter(|other| mask >> other & 1 == 1 && finer[family][*other]).count()
}

/// Returns whether every group of `fine` lies within one group of `coarse`.
fn is_finer(fine: &Family, coarse: &Family, candidates: usize) -> bool {
    let mut within = vec![None; fine.room.len()];
    (0..candidates).all(|candidate| {
        let coarse = coarse.of[candidate];
        *within[fine.of[candidate]].get_or_insert(coarse) == coarse
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns the most preferred of all choices that respect the room, by trying every one.
    fn first_of_all(families: &[Family], candidates: usize, need: usize) -> Option<Vec<usize>> {
        let mut choices: Vec<Vec<usize>> = (0u32..1 << candidates)
            .filter(|mask| mask.count_ones() as usize == need)
            .map(|mask| (0..candidates).filter(|candidate| mask >> candidate & 1 == 1).collect::<Vec<_>>())
            .filter(|choice| keeps(families, choice))
            .collect();
        choices.sort();
        choices.into_iter().next()
    }

    fn keeps(families: &[Family], choice: &[usize]) -> bool {
        families.iter().all(|family| {
            let mut left = family.room.clone();
            choice.iter().all(|candidate| {
                let left = &mut left[family.of[*candidate]];
                *left > 0 && {
                    *left -= 1;
                    true
                }
            })
        })
    }

    /// Families of four groups each. With `nested`, the second family is a coarser version of the first.
    fn some_families(count: usize) -> impl Strategy<Value = (Vec<Family>, bool)> {
        let family = (prop::collection::vec(0..4usize, 9), prop::collection::vec(0..4usize, 4));
        let family = family.prop_map(|(of, room)| Family { of, room });
        (prop::collection::vec(family, count), any::<bool>()).prop_map(|(mut families, nested)| {
            if nested && families.len() > 1 {
                families[1].of = families[0].of.iter().map(|group| group / 2).collect();
            }
            (families, nested)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn two_kinds_and_a_nested_third_are_chosen_for_exactly(
            (families, _) in (0..=3usize).prop_flat_map(some_families).prop_filter("nested", |(families, nested)| families.len() < 3 || *nested),
            candidates in 1..=9usize, need in 0..=6usize,
        ) {
            let expected = first_of_all(&families, candidates, need);
            prop_assert_eq!(fits(&families, candidates, need), expected.is_some());
            match (choose(&families, candidates, need), expected) {
                (Ok(chosen), Some(expected)) => prop_assert_eq!(chosen, expected),
                (Err(NoChoice::Full { room, groups }), None) => {
                    prop_assert!(room < need && first_of_all(&families, candidates, room).is_some());
                    prop_assert!(candidates < need || !groups.is_empty(), "nothing is full");
                }
                (chosen, expected) => prop_assert!(false, "{:?} where {:?} was expected", chosen, expected),
            }
        }

        #[test]
        fn kinds_that_cross_in_three_ways_are_never_overdrawn(
            (families, _) in some_families(4), candidates in 1..=9usize, need in 0..=6usize,
        ) {
            if let Ok(chosen) = choose(&families, candidates, need) {
                prop_assert!(chosen.len() == need && keeps(&families, &chosen));
            }
        }
    }
}
