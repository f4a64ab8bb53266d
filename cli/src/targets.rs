//! What a command that takes many objects is given: labels, or URLs with labels.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use format::{Locator, Mode};
use twin::{Target, TargetError, Twin};

/// Objects as they were named, with their names.
pub(crate) struct Targets(Vec<(String, Target)>);

impl Targets {
    pub(crate) fn parse(texts: &[String]) -> anyhow::Result<Self> {
        let parse = |text: &String| -> anyhow::Result<_> {
            Ok((text.clone(), text.parse().with_context(|| format!("no object can be looked for as {text:?}"))?))
        };
        Ok(Self(texts.iter().map(parse).collect::<Result<_, _>>()?))
    }

    /// Returns which of them are stable names.
    pub(crate) fn names(&self) -> BTreeSet<Locator> {
        let names = self.0.iter().map(|(_, target)| &target.label).filter(|label| label.mode() == Mode::Name);
        names.map(|label| label.capability().locator()).collect()
    }

    /// Returns the objects, with their names. They are to be changed as a whole: a path into a folder is refused.
    pub(crate) async fn whole(&self, twin: &Twin) -> Result<BTreeMap<Locator, String>, TargetError> {
        let mut named = BTreeMap::new();
        for (text, target) in &self.0 {
            named.insert(twin.whole(target).await?, text.clone());
        }
        Ok(named)
    }
}
