//! What of a file answers a request: the conditions first, then the range. Pure.

use std::ops::Range;

use http::{HeaderMap, Method, header};

use super::{
    conditions::{Precondition, Validators},
    range::{Wanted, wanted},
};

/// What of a file answers a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Selection {
    /// Nothing: the viewer wants other bytes than there are.
    Failed,
    /// Nothing: the viewer has these bytes.
    NotModified,
    /// Nothing: the viewer wants bytes that it does not have.
    Unsatisfiable,
    /// All of it.
    Whole,
    /// These bytes, as [`Wanted::Parts`].
    Parts(Vec<Range<u64>>),
}

impl Selection {
    /// Selects from a file of `length` bytes what a GET or HEAD with these fields is answered with.
    //= https://www.rfc-editor.org/rfc/rfc9110#section-14.2
    //# A server MUST ignore a Range header field received with a request method that is unrecognized or for which range
    //# handling is not defined.
    pub(crate) fn of(method: &Method, fields: &HeaderMap, validators: &Validators, length: u64) -> Self {
        match validators.weigh(fields) {
            Precondition::Failed => return Self::Failed,
            Precondition::NotModified => return Self::NotModified,
            Precondition::Answer => {}
        }
        let ranged = *method == Method::GET && validators.range_counts(fields);
        let field = fields.get(header::RANGE).filter(|_| ranged).and_then(|field| field.to_str().ok());
        match field.map_or(Wanted::Whole, |field| wanted(field, length)) {
            Wanted::Whole => Self::Whole,
            Wanted::Parts(parts) => Self::Parts(parts),
            Wanted::Unsatisfiable => Self::Unsatisfiable,
        }
    }
}

#[cfg(test)]
mod tests {
    use format::Locator;
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn select(method: &Method, pairs: &[(HeaderName, &str)]) -> Selection {
        let fields = pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect();
        Selection::of(method, &fields, &validators(), 100)
    }

    fn validators() -> Validators {
        Validators::of(&Locator([0xab; 32]), Some(784_111_777))
    }

    fn one(range: Range<u64>) -> Selection {
        Selection::Parts([range].into())
    }

    //= https://www.rfc-editor.org/rfc/rfc9110#section-13.2.2
    //= type=test
    //# When the method is GET and both Range and If-Range are present, evaluate the If-Range precondition
    #[test]
    fn conditions_come_before_the_range_and_a_range_is_of_get_alone() {
        let tag = &*validators().etag;
        let range = (header::RANGE, "bytes=0-9");
        for (pairs, selection) in [
            (vec![], Selection::Whole),
            (vec![range.clone()], one(0..10)),
            (vec![(header::RANGE, "bytes=100-")], Selection::Unsatisfiable),
            (vec![range.clone(), (header::IF_NONE_MATCH, tag)], Selection::NotModified),
            (vec![range.clone(), (header::IF_MATCH, "\"x\"")], Selection::Failed),
            (vec![range.clone(), (header::IF_RANGE, tag)], one(0..10)),
            (vec![range.clone(), (header::IF_RANGE, "\"x\"")], Selection::Whole),
            (vec![(header::RANGE, "bytes=100-"), (header::IF_RANGE, "\"x\"")], Selection::Whole),
        ] {
            let of_head = match selection {
                Selection::Unsatisfiable | Selection::Parts(_) => Selection::Whole,
                Selection::Failed => Selection::Failed,
                Selection::NotModified => Selection::NotModified,
                Selection::Whole => Selection::Whole,
            };
            assert_eq!(select(&Method::GET, &pairs), selection, "{pairs:?}");
            assert_eq!(select(&Method::HEAD, &pairs), of_head, "{pairs:?}");
        }
    }
}
