//! What becomes of a node's shards when it is to be emptied: which can go, which went already, which have nowhere to
//! go, and why, in words for an operator. Pure; repair itself asks the same function where shards may go.

use std::collections::BTreeMap;

use client::PlacementError;
use format::{
    NodeName, ObjectId,
    wire::{Amount, DrainPage, Obstacle},
};

use super::{diagnose, standing::Standings, worker::targets};
use crate::catalog::ObjectPage;

/// Judges a page of the objects that have shards on a node. `standings` say that it is to be emptied, `given_up` why
/// the repairs of some are at rest: nobody moves these before an operator, or time, says so.
pub(super) fn of(
    name: &NodeName,
    page: &ObjectPage,
    given_up: &BTreeMap<ObjectId, String>,
    standings: &mut Standings,
) -> DrainPage {
    let (mut moving, mut moved) = (Amount::default(), Amount::default());
    let mut stuck: BTreeMap<String, Amount> = BTreeMap::new();
    for row in &page.objects {
        let found = diagnose(row, standings);
        let here = row.shards.iter().filter(|(_, at)| at == name).map(|(column, _)| *column);
        // What a renewed lease no longer wants, and what has no strip, is only removed.
        let stays = |column: &usize| {
            row.public.column_strips(*column) > 0 && !found.kept.iter().any(|(kept, at)| kept == column && at != name)
        };
        let (leaving, gone): (Vec<usize>, Vec<usize>) = here.partition(stays);
        let bytes = |columns: &[usize]| columns.iter().map(|column| row.public.shard_bytes(*column)).sum();
        if leaving.is_empty() {
            moved.add(bytes(&gone));
            continue;
        }
        let targets = targets(row, &found, standings);
        let goes = |column: &usize| targets.chosen.iter().any(|(chosen, _)| chosen == column);
        match targets.refusal {
            Some(refusal) if !leaving.iter().all(goes) => {
                stuck.entry(plainly(&refusal)).or_default().add(bytes(&leaving));
            }
            _ => match given_up.get(&row.id()) {
                Some(error) => stuck.entry(at_rest(error)).or_default().add(bytes(&leaving)),
                None => moving.add(bytes(&leaving)),
            },
        }
    }
    let stuck = stuck.into_iter().map(|(why, amount)| Obstacle { why, amount }).collect();
    DrainPage { moving, moved, stuck, held_bytes: 0, next: page.next }
}

/// Says that a repair was given up, and what its last attempt failed by.
fn at_rest(error: &str) -> String {
    format!("their repairs were given up, which `evernear repair retry` takes back; the last failed: {error}")
}

/// Says why columns find no nodes, to whoever runs the nodes. Owners are told by [`PlacementError`] itself.
pub(super) fn plainly(refusal: &PlacementError) -> String {
    let count = |count: usize, thing: &str| format!("{count} {thing}{}", if count == 1 { "" } else { "s" });
    match refusal {
        PlacementError::TooFew { redundancy, need, have, wanted, refused, .. } => {
            let wishes =
                if wanted.is_empty() && refused.is_empty() { "" } else { " in the places that its owner allows" };
            let can = match have {
                0 => "no other origin".to_owned(),
                have => format!("only {}", count(*have, "other origin")),
            };
            format!(
                "an object of {redundancy} needs {} with room{wishes}; {} must go elsewhere, and {can} can take one",
                count(redundancy.columns(), "origin"),
                count(*need, "shard"),
            )
        }
        PlacementError::Capped { redundancy, need, room, .. } => format!(
            "caps leave an object of {redundancy} room for {room} of {} that must go elsewhere: {}",
            count(*need, "shard"),
            refusal.full_places(),
        ),
        PlacementError::Tangled { .. } => refusal.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use format::Lease;

    use super::*;
    use crate::{
        catalog::ObjectRow,
        repair::sample::{cluster, name, row},
    };

    fn page(row: ObjectRow) -> ObjectPage {
        ObjectPage { objects: vec![row], next: None }
    }

    #[test]
    fn what_can_go_what_went_and_what_cannot_are_told_apart() {
        let bytes = row().public.shard_bytes(2);
        let one = Amount { objects: 1, bytes };
        let judge = |nodes: usize, row: ObjectRow| {
            let mut standings = cluster(nodes, |number, entry| entry.draining = number == 2);
            of(&name(2), &page(row), &BTreeMap::new(), &mut standings)
        };
        let free = judge(8, row());
        assert_eq!((free.moving, free.moved, free.stuck), (one, Amount::default(), vec![]));

        let stuck = judge(6, row());
        assert_eq!((stuck.moving, stuck.moved), (Amount::default(), Amount::default()));
        let [Obstacle { why, amount }] = &stuck.stuck[..] else { panic!("{stuck:?}") };
        assert_eq!(*amount, one);
        assert_eq!(
            why,
            "an object of 4+2 needs 6 origins with room; 1 shard must go elsewhere, and no other origin can take one"
        );

        let mut doubled = row();
        doubled.shards.push((2, name(7)));
        let went = judge(8, doubled);
        assert_eq!((went.moving, went.moved, went.stuck), (Amount::default(), one, vec![]));
    }

    #[test]
    fn a_shard_that_lost_ones_leave_no_node_for_cannot_go() {
        let judge = |spares: usize| {
            let mut standings = cluster(6 + spares, |number, entry| {
                entry.draining = number == 2;
                if number < 2 {
                    entry.seen = 900;
                }
            });
            let page = of(&name(2), &page(row()), &BTreeMap::new(), &mut standings);
            (page.moving.objects, page.stuck.len())
        };
        assert_eq!([1, 2, 3].map(judge), [(0, 1), (0, 1), (1, 0)]);
    }

    #[test]
    fn what_nobody_tries_to_move_any_more_is_stuck_and_says_why() {
        let given_up = BTreeMap::from([(row().id(), "o7 is full".to_owned())]);
        let judge = |nodes: usize| {
            let mut standings = cluster(nodes, |number, entry| entry.draining = number == 2);
            of(&name(2), &page(row()), &given_up, &mut standings)
        };
        let rests = judge(8);
        assert_eq!((rests.moving.objects, rests.stuck[0].amount.objects), (0, 1));
        assert!(rests.stuck[0].why.contains("`evernear repair retry`") && rests.stuck[0].why.ends_with("o7 is full"));
        assert!(judge(6).stuck[0].why.contains("needs 6 origins"), "a retry would not help");
    }

    #[test]
    fn an_owners_wishes_are_named() {
        let lease = |wanted: &[&str], caps: &[&str]| Lease {
            wanted: wanted.iter().map(|it| it.parse().unwrap()).collect(),
            caps: caps.iter().map(|it| it.parse().unwrap()).collect(),
            ..row().lease
        };
        let why = |lease: Lease| {
            let mut nodes = cluster(8, |number, entry| entry.draining = number == 2);
            let mut page = of(&name(2), &page(ObjectRow { lease, ..row() }), &BTreeMap::new(), &mut nodes);
            page.stuck.pop().unwrap().why
        };
        assert!(why(lease(&["zone:z0", "zone:z1", "zone:z2"], &[])).contains("in the places that its owner allows"));
        assert!(why(lease(&[], &["region=3"])).contains("region=3"));
    }
}
