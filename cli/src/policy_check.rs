//! Validates a policy as an edge will: structure, configuration, and a real compilation inside the compiler's limits.

use std::{path::PathBuf, time::Duration};

use anyhow::Context;
use sandbox::guard::{self, ChildCommand};
use serde::Serialize;
use twin::PolicySource;

/// The compiler has 10 s of CPU time; the rest allows for a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);

/// The word that makes this program the policy compiler's child process, which speaks on standard input and output.
pub(crate) const COMPILE: &str = "policy-compile";

/// What a link is, and what it can read.
#[derive(Debug, Serialize)]
pub(crate) struct CheckedLink {
    /// The ready-made name or the file.
    component: String,
    component_bytes: usize,
    config_bytes: usize,
    /// The configuration keys that the component declares. `None` when it declares nothing: then its configuration is
    /// not checked.
    config_keys: Option<Vec<String>>,
    /// The decisions it takes part in.
    hooks: Vec<String>,
    /// Everything that it can ask. It cannot see anything else.
    reads: Vec<String>,
    functions: u32,
}

/// The child process that compiles owners' policies: this program, by a word of its own.
pub(crate) fn compiler() -> anyhow::Result<ChildCommand> {
    // The path would not do: after an upgrade under a running edge, another program is there.
    let program = match cfg!(target_os = "linux") {
        true => PathBuf::from("/proc/self/exe"),
        false => std::env::current_exe().context("this program does not know where it lies")?,
    };
    Ok(ChildCommand { program, arguments: vec![COMPILE.into()], deadline: DEADLINE })
}

/// Validates every link. Blocks up to 30 s for each: run it outside of the async reactor.
pub(crate) fn check(source: &PolicySource) -> anyhow::Result<Vec<CheckedLink>> {
    let compiler = compiler()?;
    let judge = |(link, of): (usize, &twin::LinkSource)| {
        let at = || format!("link {link} ({}) is refused", of.title);
        let config = sandbox::Config::parse(&of.config).with_context(at)?;
        let admitted = sandbox::admit(&of.component, &[]).with_context(at)?;
        let summary = admitted.summary();
        if let Some(keys) = &summary.keys {
            config.check(keys).with_context(at)?;
        }
        guard::compile(&admitted, &[], &compiler).with_context(at)?;
        Ok(CheckedLink {
            component: of.title.clone(),
            component_bytes: of.component.len(),
            config_bytes: of.config.len(),
            config_keys: summary.keys.as_ref().map(|keys| keys.names().map(str::to_owned).collect()),
            hooks: summary.hooks.iter().map(|hook| hook.to_string()).collect(),
            reads: summary.imports.iter().map(ToString::to_string).collect(),
            functions: summary.functions,
        })
    };
    (1..).zip(&source.links).map(judge).collect()
}

/// Formats the result for people.
pub(crate) fn text(links: &[CheckedLink]) -> String {
    let line = |link: &CheckedLink| {
        let reads = if link.reads.is_empty() { "nothing".to_owned() } else { link.reads.join(", ") };
        let unchecked = match link.config_keys {
            Some(_) => "",
            None => "; keys and types of its configuration are not checked, because it declares none",
        };
        let CheckedLink { component, component_bytes, config_bytes, .. } = link;
        format!(
            "{component}: {component_bytes} B, config {config_bytes} B; decides {}; reads {reads}{unchecked}\n",
            link.hooks.join(", ")
        )
    };
    links.iter().map(line).collect()
}
