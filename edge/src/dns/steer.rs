//! Steering: which edges a DNS answer names, in which order. Pure: same edges, same viewer, same answer.
//!
//! health -> the owner's verdict -> capacity -> distance -> rendezvous hash of the locator among the edges that are
//! about as near as the nearest, so that one region keeps one warm copy of an object.

use format::{Locator, Place, rendezvous};

use crate::policy::places::Coordinates;

/// Most addresses' worth of edges in one answer: enough to fail over, few enough for one small packet.
pub(crate) const EDGES_MAX: usize = 3;
/// Edges within so many kilometres of the nearest count as equally near: about 3 ms of round trip in fibre.
const BAND_KILOMETRES: f64 = 300.0;
/// A third edge is named only when it is at most so much further than the nearest: a resolver may hand out any of them.
const REACH_KILOMETRES: f64 = 1500.0;
/// From this load on an edge is named only when all others are as full.
const LOAD_FULL: u8 = 95;

/// An edge that may be named.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Choice<'e> {
    /// Its name.
    pub(crate) name: &'e str,
    /// Where it is.
    pub(crate) place: &'e Place,
    /// Whether it was heard of lately.
    pub(crate) healthy: bool,
    /// How full it is, 0 to 100.
    pub(crate) load: u8,
    /// The owner's weight; 0 means never.
    pub(crate) weight: u8,
}

/// Orders the edges for one answer, best first, as indices into `choices`: none when the owner allows none, else one
/// to three. Where no edge is healthy, or all are full, they count as healthy and empty: a wrong guess still may serve.
#[must_use]
pub(crate) fn steer(choices: &[Choice<'_>], viewer: Coordinates, locator: &Locator) -> Vec<usize> {
    let allowed: Vec<usize> = (0..choices.len()).filter(|at| choices[*at].weight > 0).collect();
    let healthy = prefer(allowed, |at| choices[at].healthy);
    let chosen = prefer(healthy, |at| choices[at].load < LOAD_FULL);

    let mut by_distance: Vec<(f64, usize)> =
        chosen.into_iter().map(|at| (viewer.kilometres_to(choices[at].place), at)).collect();
    by_distance.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| choices[a.1].name.cmp(choices[b.1].name)));
    let Some(&(nearest, _)) = by_distance.first() else { return Vec::new() };

    let near = by_distance.partition_point(|(distance, _)| *distance <= nearest + BAND_KILOMETRES);
    let score = |at: usize| {
        let edge = &choices[at];
        rendezvous::score(locator.as_bytes(), edge.name, f64::from(edge.weight))
    };
    by_distance[..near].sort_by(|a, b| score(b.1).total_cmp(&score(a.1)));

    let within = |(rank, (distance, _)): &(usize, &(f64, usize))| *rank < 2 || *distance <= nearest + REACH_KILOMETRES;
    by_distance.iter().enumerate().take(EDGES_MAX).filter(within).map(|(_, (_, at))| *at).collect()
}

/// Keeps those that are `good`, or all when none is.
fn prefer(all: Vec<usize>, good: impl Fn(usize) -> bool) -> Vec<usize> {
    let kept: Vec<usize> = all.iter().copied().filter(|at| good(*at)).collect();
    if kept.is_empty() { all } else { kept }
}

#[cfg(test)]
mod tests {
    use format::Country;
    use proptest::prelude::*;

    use super::*;

    fn place(latitude: f64, longitude: f64) -> Place {
        let (operator, datacentre) = (String::new(), String::new());
        Place {
            country: Country::UNKNOWN,
            region: "r".into(),
            zone: "z".into(),
            operator,
            datacentre,
            latitude,
            longitude,
        }
    }

    fn choice<'e>(name: &'e str, place: &'e Place) -> Choice<'e> {
        Choice { name, place, healthy: true, load: 10, weight: 100 }
    }

    const TOKYO: Coordinates = Coordinates { latitude: 35.7, longitude: 139.7 };

    #[test]
    fn the_nearest_comes_first() {
        let places = [place(50.8, 4.4), place(35.6, 139.8), place(40.7, -74.0)];
        let edges = [choice("bru", &places[0]), choice("tyo", &places[1]), choice("nyc", &places[2])];
        let order = steer(&edges, TOKYO, &Locator([1; 32]));
        assert_eq!((order[0], order.len()), (1, 2), "a third edge an ocean away is not named");
    }

    #[test]
    fn one_region_agrees_on_one_edge_for_an_object_and_spreads_objects() {
        let places = [place(35.6, 139.8), place(35.4, 139.6), place(36.0, 140.0)];
        let edges = [choice("a", &places[0]), choice("b", &places[1]), choice("c", &places[2])];
        let first = |byte, viewer| steer(&edges, viewer, &Locator([byte; 32]))[0];
        let yokohama = Coordinates { latitude: 35.4, longitude: 139.6 };
        let mut firsts = [0; 3];
        for byte in 0..90 {
            assert_eq!(first(byte, TOKYO), first(byte, yokohama));
            firsts[first(byte, TOKYO)] += 1;
        }
        assert!(firsts.iter().all(|count| *count > 15), "{firsts:?}");
    }

    #[test]
    fn refused_full_and_silent_edges_stand_back() {
        let places = [place(35.6, 139.8), place(50.8, 4.4)];
        let [near, far] = [choice("near", &places[0]), choice("far", &places[1])];
        let first = |near, far| steer(&[near, far], TOKYO, &Locator([1; 32])).first().copied();
        assert_eq!(first(Choice { weight: 0, ..near }, far), Some(1));
        assert_eq!(first(Choice { healthy: false, ..near }, far), Some(1));
        assert_eq!(first(Choice { load: 95, ..near }, far), Some(1));
        assert_eq!(first(Choice { load: 94, ..near }, far), Some(0));
        assert_eq!(first(Choice { healthy: false, ..near }, Choice { healthy: false, ..far }), Some(0));
        assert_eq!(first(Choice { weight: 0, ..near }, Choice { weight: 0, ..far }), None);
    }

    proptest! {
        #[test]
        fn answers_are_few_distinct_allowed_and_start_near(
            edges in prop::collection::vec((-90.0..90.0f64, -180.0..180.0f64, any::<bool>(), 0..=100u8, 0..3u8), 0..12),
            latitude in -90.0..90.0f64, longitude in -180.0..180.0f64, locator: [u8; 32],
        ) {
            let viewer = Coordinates { latitude, longitude };
            let places: Vec<Place> = edges.iter().map(|edge| place(edge.0, edge.1)).collect();
            let names: Vec<String> = (0..edges.len()).map(|at| format!("edge-{at}")).collect();
            let choices: Vec<Choice<'_>> = edges.iter().enumerate().map(|(at, edge)| Choice {
                name: &names[at], place: &places[at], healthy: edge.2, load: edge.3, weight: edge.4,
            }).collect();
            let order = steer(&choices, viewer, &Locator(locator));
            prop_assert!(order.len() <= EDGES_MAX);
            prop_assert!(order.iter().all(|at| choices[*at].weight > 0));
            prop_assert_eq!(order.is_empty(), choices.iter().all(|edge| edge.weight == 0));
            let distinct: std::collections::BTreeSet<_> = order.iter().collect();
            prop_assert_eq!(distinct.len(), order.len());
            if let Some(first) = order.first() {
                let good = |edge: &Choice<'_>| edge.weight > 0 && edge.healthy && edge.load < LOAD_FULL;
                let nearest = choices.iter().filter(|edge| good(edge)).map(|edge| viewer.kilometres_to(edge.place));
                let nearest = nearest.fold(f64::INFINITY, f64::min);
                if nearest.is_finite() {
                    prop_assert!(viewer.kilometres_to(choices[*first].place) <= nearest + BAND_KILOMETRES);
                }
            }
        }
    }
}
