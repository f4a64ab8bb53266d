//! What a policy said of a request, as it is remembered: the verdict, and the questions that it hung on. Pure.

use sandbox::{Area, Asked, Effect, Marks, Outcome, Question, Served};

/// What the policy said, as remembered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) verdict: Served,
    pub(crate) effects: Vec<Effect>,
    /// The questions whose answers the clock turns.
    pub(super) timed: Vec<Asked>,
    /// The fields of the request that it hung on, in small letters and in order.
    pub(super) vary: Vec<Box<str>>,
}

impl Said {
    pub(super) fn allow() -> Self {
        let verdict = Served {
            outcome: Outcome::Allow,
            link: sandbox::LinkIndex(0),
            status: 200,
            reason: 0,
            client_ttl: 3600,
            stale_revalidate: 0,
            stale_error: 0,
            marks: Marks::empty(),
            headers: Vec::new(),
            target: None,
            rate_class: None,
        };
        Self::of(verdict, Vec::new(), &[])
    }

    /// What hung on who the viewer is, which no field of a request tells, no cache may show to another.
    //= https://www.rfc-editor.org/rfc/rfc9111#section-5.2.2.7
    //# The unqualified private response directive indicates that a shared cache MUST NOT store the response
    pub(super) fn of(mut verdict: Served, effects: Vec<Effect>, trace: &[Asked]) -> Self {
        let timed = trace.iter().filter(|asked| asked.question.area() == Area::Time).cloned().collect();
        let mut vary = Vec::new();
        for Asked { question, .. } in trace {
            match question {
                Question::RequestHeaderIs(name, _)
                | Question::RequestHeaderHas(name, _)
                | Question::RequestHeader(name, _) => vary.push(name.to_ascii_lowercase().into()),
                Question::RequestReferer => vary.push("referer".into()),
                Question::RequestToken | Question::RequestTokenClaim(_) => verdict.marks |= Marks::PRIVATE,
                question if question.area() == Area::Client => verdict.marks |= Marks::PRIVATE,
                _ => {}
            }
        }
        Self { verdict, effects, timed, vary: in_order(vary) }
    }

    /// What it holds on the heap, about.
    pub(super) fn bytes(&self) -> usize {
        let headers: usize =
            self.verdict.headers.iter().map(|header| header.name().len() + header.value().len() + 48).sum();
        let vary: usize = self.vary.iter().map(|name| size_of::<Box<str>>() + name.len()).sum();
        size_of::<Self>() + headers + self.effects.len() * 128 + self.timed.len() * size_of::<Asked>() + vary
    }
}

/// Returns names in order, each once.
pub(super) fn in_order(mut names: Vec<Box<str>>) -> Vec<Box<str>> {
    names.sort_unstable();
    names.dedup();
    names
}
