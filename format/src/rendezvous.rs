//! Rendezvous hashing (Thaler and Ravishankar, 1998): all who know the same names compute the same order for a key. A
//! name that is added or removed moves only its own share of keys.

/// Orders `names` of equal weight for `key`, best first. The scores are exact integers, so the order is the same on
/// every machine.
pub fn order<'n, N: AsRef<str> + ?Sized>(key: &[u8; 32], names: impl IntoIterator<Item = &'n N>) -> Vec<&'n N> {
    let mut scored: Vec<(u64, &N)> = names.into_iter().map(|name| (draw(key, name.as_ref()), name)).collect();
    scored.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.as_ref().cmp(b.1.as_ref())));
    scored.into_iter().map(|(_, name)| name).collect()
}

/// Returns the weighted score of a name: `-weight / ln(draw)`. A name of twice the weight wins twice as often
/// (Schindelhauer and Schomaker, 2005). A name of zero weight never wins.
#[must_use]
pub fn score(key: &[u8; 32], name: &str, weight: f64) -> f64 {
    if weight <= 0.0 {
        return 0.0;
    }
    // The draw has 53 bits, the precision of a double. The offset keeps it away from zero and one.
    #[expect(clippy::cast_precision_loss, reason = "the shifted draw has 53 bits, which a double holds exactly")]
    let uniform = ((draw(key, name) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -weight / uniform.ln()
}

fn draw(key: &[u8; 32], name: &str) -> u64 {
    let hash = blake3::keyed_hash(key, name.as_bytes());
    u64::from_le_bytes(*hash.as_bytes().first_chunk().expect("a hash is longer than eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_goes_moves_only_its_own_share() {
        let names: Vec<String> = (0..20).map(|i| format!("node-{i}")).collect();
        for key in (0..50).map(|i| [i; 32]) {
            let all = order(&key, &names);
            let fewer = order(&key, names.iter().filter(|name| *name != "node-7"));
            let without: Vec<_> = all.into_iter().filter(|name| *name != "node-7").collect();
            assert_eq!(without, fewer);
        }
    }

    #[test]
    fn twice_the_weight_wins_twice_as_often() {
        let wins = (0..3000u32)
            .filter(|i| {
                let key = *blake3::hash(&i.to_le_bytes()).as_bytes();
                score(&key, "heavy", 2.0) > score(&key, "light", 1.0)
            })
            .count();
        assert!((1900..2100).contains(&wins), "{wins}");
        assert!(score(&[0; 32], "none", 0.0) <= 0.0);
    }
}
