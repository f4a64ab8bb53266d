//! Decisions: what owners' policies say about one request, and for how long anybody may keep the answer. Pure.

use std::sync::Arc;

use sandbox::{Marks, Outcome, valid_until};

use super::said::{Said, in_order};
use crate::error::Fault;

/// A decision about a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) said: Arc<Said>,
    /// Seconds the viewer may keep the answer, already cut at the second when the decision itself turns.
    pub(crate) viewer_seconds: u32,
    /// The second since 1970 at which the decision itself turns.
    turns: u64,
    /// Seconds that the answer may be kept stale at most: what turns, or ends, is not shown after that.
    stale_seconds: u32,
    /// The second since 1970 from which nothing is served here: no answer is kept for longer.
    ends: u64,
    /// Whether the address may show something else, or nothing, before `viewer_seconds` would have passed: then no
    /// answer is immutable.
    moves: bool,
}

impl Decision {
    pub(super) fn new(said: Arc<Said>, now: u32) -> Self {
        let turns = valid_until(&said.timed, now);
        let left = turns.map_or(u32::MAX, |turns| turns.saturating_sub(now));
        let stale_seconds = if turns.is_some() { 0 } else { u32::MAX };
        let viewer_seconds = said.verdict.client_ttl.min(left);
        let turns = u64::from(now) + u64::from(left);
        Self { viewer_seconds, said, turns, stale_seconds, ends: u64::MAX, moves: false }
    }

    /// Returns the second since 1970 from which its words to the viewer are others, at `now`.
    pub(crate) fn says_so_until(&self, now: u32) -> u64 {
        let fresh = u64::from(self.viewer_seconds);
        let stale = self.stale().into_iter().map(|(_, seconds)| seconds).max().unwrap_or(0);
        let ends = self.ends.saturating_sub(fresh + u64::from(stale));
        self.turns.saturating_sub(fresh).min(ends).max(u64::from(now) + 1)
    }

    /// Joins the decisions of a directory's policy and of the policy of the object in it, as the links of one policy
    /// are joined: the first refusal decides, the shorter lifetime holds, what both say of caches and headers adds up.
    pub(crate) fn and(self, then: &Self) -> Self {
        let viewer_seconds = self.viewer_seconds.min(then.viewer_seconds);
        if self.said.verdict.outcome != Outcome::Allow {
            return Self { viewer_seconds, ..self };
        }
        let verdict = self.said.verdict.clone().and(then.said.verdict.clone());
        let effects = [&self.said.effects[..], &then.said.effects].concat();
        let timed = [&self.said.timed[..], &then.said.timed].concat();
        let vary = in_order([&self.said.vary[..], &then.said.vary].concat());
        let (turns, moves) = (self.turns.min(then.turns), self.moves || then.moves);
        let (stale_seconds, ends) = (self.stale_seconds.min(then.stale_seconds), self.ends.min(then.ends));
        let said = Arc::new(Said { verdict, effects, timed, vary });
        Self { said, viewer_seconds, turns, stale_seconds, ends, moves }
    }

    /// The same for an answer to a link that ends in so many seconds: what it opens is not kept for longer.
    pub(crate) fn of_link(self, seconds: u32) -> Self {
        Self { viewer_seconds: self.viewer_seconds.min(seconds), stale_seconds: 0, ..self }
    }

    /// The same for an answer under a stable name, which its owner lets be kept for so many seconds at most.
    pub(crate) fn of_name(self, seconds: u32) -> Self {
        let viewer_seconds = self.viewer_seconds.min(seconds);
        Self { viewer_seconds, stale_seconds: self.stale_seconds.min(viewer_seconds), moves: true, ..self }
    }

    /// The same for an answer of what is served no more from the second `end` since 1970 on, which comes after `now`:
    /// fresh or stale, no cache is told that it may keep it for longer.
    pub(crate) fn until(self, end: u64, now: u64) -> Self {
        let left = rounded(u32::try_from(end.saturating_sub(now)).unwrap_or(u32::MAX));
        let viewer_seconds = self.viewer_seconds.min(left);
        let stale_seconds = self.stale_seconds.min(left - viewer_seconds);
        let moves = self.moves || left < self.viewer_seconds;
        Self { viewer_seconds, stale_seconds, ends: self.ends.min(end), moves, ..self }
    }

    pub(crate) fn marks(&self) -> Marks {
        self.said.verdict.marks
    }

    /// Returns the refusal, if it is one that is not a redirect. A redirect to nowhere is one: it must not end as a
    /// yes.
    pub(crate) fn refusal(&self) -> Option<Fault> {
        let status = self.said.verdict.status;
        match self.said.verdict.outcome {
            Outcome::Allow => None,
            Outcome::Redirect => self.redirect().is_none().then_some(Fault::Policy),
            Outcome::Hide => Some(Fault::Unknown),
            Outcome::Deny | Outcome::Challenge | Outcome::Unavailable => Some(Fault::Denied { status }),
        }
    }

    /// Returns where to redirect to, with the status.
    pub(crate) fn redirect(&self) -> Option<(u16, &str)> {
        let verdict = &self.said.verdict;
        (verdict.outcome == Outcome::Redirect)
            .then(|| verdict.target.as_deref().map(|target| (verdict.status, target)))
            .flatten()
    }

    /// Returns the fields of the request that the answer hung on, as Vary has them; empty for none.
    //= https://www.rfc-editor.org/rfc/rfc9110#section-12.5.5
    //# An origin server SHOULD generate a Vary header field on a cacheable response when it wishes that response to be
    //# selectively reused for subsequent requests.
    pub(crate) fn vary(&self) -> String {
        self.said.vary.join(", ")
    }

    /// Returns the Cache-Control of the answer.
    pub(crate) fn cache_control(&self) -> String {
        let marks = self.marks();
        if marks.contains(Marks::NO_STORE) {
            return "no-store".to_owned();
        }
        let mut text = if marks.contains(Marks::PRIVATE) { "private".to_owned() } else { "public".to_owned() };
        text.push_str(&format!(", max-age={}", self.viewer_seconds));
        for (name, seconds) in self.stale() {
            if seconds > 0 {
                text.push_str(&format!(", {name}={seconds}"));
            }
        }
        for (mark, name) in [(Marks::IMMUTABLE, "immutable"), (Marks::NO_TRANSFORM, "no-transform")] {
            if marks.contains(mark) && !(self.moves && mark == Marks::IMMUTABLE) {
                text.push_str(", ");
                text.push_str(name);
            }
        }
        text
    }

    /// Returns the Cache-Control of an answer to the same viewers that is kept no longer than so many seconds, and
    /// never stale.
    pub(crate) fn cache_control_up_to(&self, seconds: u32) -> String {
        let scope = match self.marks() {
            marks if marks.contains(Marks::NO_STORE) => return "no-store".to_owned(),
            marks if marks.contains(Marks::PRIVATE) => "private",
            _ => "public",
        };
        format!("{scope}, max-age={}", self.viewer_seconds.min(seconds))
    }

    /// Returns for how many seconds the answer may be kept stale, each with its name in Cache-Control.
    fn stale(&self) -> [(&'static str, u32); 2] {
        let verdict = &self.said.verdict;
        [("stale-while-revalidate", verdict.stale_revalidate), ("stale-if-error", verdict.stale_error)]
            .map(|(name, seconds)| (name, seconds.min(self.stale_seconds)))
    }
}

/// Returns a little less than so many seconds, by 1/32 at most: what is told of an end that comes nearer stays the same
/// for a while, so that ready answers do.
fn rounded(seconds: u32) -> u32 {
    let bits = (seconds / 32).max(1).ilog2();
    seconds >> bits << bits
}

#[cfg(test)]
impl Decision {
    /// Allows, and says this beside it.
    pub(crate) fn allowing(headers: Vec<sandbox::Header>, effects: Vec<sandbox::Effect>, marks: Marks) -> Self {
        let verdict = sandbox::Served { headers, marks, ..Said::allow().verdict };
        Self::new(Arc::new(Said::of(verdict, effects, &[])), 0)
    }
}

#[cfg(test)]
mod tests {
    use sandbox::{Asked, Question, Served};

    use super::*;

    /// A yes that hung on these questions, at second 40.
    fn asked(questions: Vec<Question>) -> Decision {
        let verdict = Served { stale_revalidate: 60, stale_error: 600, ..Said::allow().verdict };
        let asked = |question| Asked { link: 0, question, answer: false.into() };
        let trace: Vec<Asked> = questions.into_iter().map(asked).collect();
        Decision::new(Arc::new(Said::of(verdict, Vec::new(), &trace)), 40)
    }

    #[test]
    fn no_shared_cache_shows_one_viewer_what_another_may_see() {
        let header = |name: &str| Question::RequestHeaderIs(name.into(), "x".into());
        for (questions, begins, vary) in [
            (vec![], "public", ""),
            (vec![Question::ObjectKind, Question::RequestPath(9), Question::TimeAfter(1)], "public", ""),
            (vec![Question::ObjectKind, Question::ClientCountry], "private", ""),
            (vec![Question::ClientBucket(10)], "private", ""),
            (vec![Question::RequestToken], "private", ""),
            (
                vec![header("x-b"), Question::RequestReferer, header("Accept"), header("x-b")],
                "public",
                "accept, referer, x-b",
            ),
            (vec![header("accept-language"), Question::ClientAsn], "private", "accept-language"),
        ] {
            let decision = asked(questions);
            assert_eq!((&decision.cache_control()[..begins.len()], &*decision.vary()), (begins, vary));
        }
        let both = asked(vec![header("b")]).and(&asked(vec![header("a"), Question::ClientCountry]));
        assert_eq!((&both.cache_control()[..7], &*both.vary()), ("private", "a, b"));
    }

    #[test]
    fn what_turns_or_ends_is_not_kept_stale_beyond_that() {
        let decision = |question| asked(vec![question]);
        let (turns, turned) = (decision(Question::TimeAfter(100)), decision(Question::TimeAfter(30)));
        let long = "public, max-age=3600, stale-while-revalidate=60, stale-if-error=600";
        for (decision, says) in [
            (turned.clone(), long),
            (turns.clone(), "public, max-age=60"),
            (turned.clone().and(&turns), "public, max-age=60"),
            (turned.clone().of_link(30), "public, max-age=30"),
            (turned.of_name(90), "public, max-age=90, stale-while-revalidate=60, stale-if-error=90"),
        ] {
            assert_eq!(decision.cache_control(), says);
        }
    }

    #[test]
    fn no_cache_is_told_to_keep_an_answer_past_an_end() {
        let year = |marks| {
            let mut said = Said::allow();
            let verdict = &mut said.verdict;
            (verdict.client_ttl, verdict.stale_error, verdict.stale_revalidate) = (31_536_000, 86_400, 600);
            verdict.marks = marks;
            Decision::new(Arc::new(said), 1_000)
        };
        let immutable = || year(Marks::IMMUTABLE);
        for (decision, says) in [
            (immutable().until(1_060, 1_000), "public, max-age=60"),
            (immutable().until(1_001, 1_000), "public, max-age=1"),
            (immutable().until(1_000 + 3_600, 1_000), "public, max-age=3584"),
            (
                immutable().of_name(30).until(1_040, 1_000),
                "public, max-age=30, stale-while-revalidate=10, stale-if-error=10",
            ),
            (year(Marks::empty()).until(1_050, 1_000).until(1_020, 1_000), "public, max-age=20"),
            (
                immutable().until(u64::MAX, 1_000),
                "public, max-age=31536000, stale-while-revalidate=600, stale-if-error=86400, immutable",
            ),
        ] {
            assert_eq!(decision.cache_control(), says);
        }
        // The words stay true for as long as they are kept ready, whatever the end and the moment.
        for left in [1, 2, 59, 64, 100, 3_599, 86_400, 31_536_000, 31_536_001, 31_622_400, 40_000_000_u32] {
            let end = 1_000 + u64::from(left);
            let decision = immutable().until(end, 1_000);
            let stale = decision.stale().map(|(_, seconds)| seconds).into_iter().max().unwrap();
            let kept = u64::from(decision.viewer_seconds + stale);
            let last = decision.says_so_until(1_000) - 1;
            assert!(last >= 1_000 && last + kept <= end, "{left}: {kept}, {last}");
            assert!(kept >= u64::from(left - left / 32).min(31_536_000), "{left}: {kept}");
        }
    }

    #[test]
    fn a_redirect_to_nowhere_is_a_refusal() {
        let mut said = Said::allow();
        said.verdict.outcome = Outcome::Redirect;
        let decision = Decision { viewer_seconds: 60, ..Decision::new(Arc::new(said), 0) };
        assert_eq!((decision.redirect(), decision.refusal()), (None, Some(Fault::Policy)));
    }
}
