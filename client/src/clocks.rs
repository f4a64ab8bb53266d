//! How far the clocks of nodes are from this machine's, as their answers tell (the field `Date`). A twin that signs an
//! end asks: it costs no call of its own.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use format::NodeName;
use http::{HeaderMap, header::DATE};

/// By how many seconds the clock of each node was ahead when it answered last.
#[derive(Debug, Default)]
pub(crate) struct Clocks(Mutex<HashMap<NodeName, i64>>);

impl Clocks {
    /// Notes the date of an answer that came at `now`. An answer without one, or with one that is none, says nothing.
    pub(crate) fn hear(&self, node: &NodeName, answer: &HeaderMap, now: SystemTime) {
        let date = answer.get(DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
        let Some(date) = date else { return };
        let seconds = |since: std::time::Duration| i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        let ahead = match date.duration_since(now) {
            Ok(ahead) => seconds(ahead),
            Err(behind) => -seconds(behind.duration()),
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(node.clone(), ahead);
    }

    /// Returns what was heard.
    pub(crate) fn ahead(&self) -> BTreeMap<NodeName, i64> {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.iter().map(|(node, ahead)| (node.clone(), *ahead)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn the_last_date_of_each_node_counts_and_what_is_none_says_nothing() {
        let (clocks, now) = (Clocks::default(), UNIX_EPOCH + Duration::from_secs(784_111_777));
        for (node, date) in [
            ("o1", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("o2", "Sun, 06 Nov 1994 09:49:37 GMT"),
            ("o2", "Sun, 06 Nov 1994 09:49:38 GMT"),
            ("o2", "yesterday"),
            ("o3", "Sun, 06 Nov 1994 08:48:37 GMT"),
            ("o4", ""),
        ] {
            let answer: HeaderMap = [(DATE, date.parse().unwrap())].into_iter().collect();
            clocks.hear(&node.parse().unwrap(), &answer, now);
        }
        clocks.hear(&"o5".parse().unwrap(), &HeaderMap::new(), now);
        let ahead: Vec<_> = clocks.ahead().into_iter().map(|(node, ahead)| (node.to_string(), ahead)).collect();
        assert_eq!(ahead, [("o1".into(), 0), ("o2".into(), 3601), ("o3".into(), -60)]);
    }
}
