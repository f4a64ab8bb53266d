//! What a command that takes many objects is given: labels, or URLs with labels.

use std::collections::BTreeMap;

use anyhow::Context;
use format::Locator;
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

    /// Returns the objects, with their names. They are to be changed as a whole: a path into a folder is refused.
    pub(crate) async fn whole(&self, twin: &Twin) -> Result<BTreeMap<Locator, String>, TargetError> {
        let mut named = BTreeMap::new();
        for (text, target) in &self.0 {
            named.insert(twin.whole(target).await?, text.clone());
        }
        Ok(named)
    }
}
