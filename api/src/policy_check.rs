//! Checks a policy as an edge will, before it is published: structure, configuration, and a real compilation inside the
//! compiler's limits.

use std::fmt;

use sandbox::{
    AdmitError, Config, ConfigError,
    guard::{self, ChildCommand, GuardError},
};
use serde::Serialize;
use twin::{LinkSource, PolicySource};

/// What a link is, and what it can read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckedLink {
    /// The ready-made name or the file.
    pub component: String,
    /// Bytes of the component.
    pub component_bytes: usize,
    /// Bytes of its configuration.
    pub config_bytes: usize,
    /// The configuration keys that the component declares. `None` when it declares nothing: then its configuration is
    /// not checked.
    pub config_keys: Option<Vec<String>>,
    /// The decisions it takes part in.
    pub hooks: Vec<String>,
    /// Everything that it can ask. It cannot see anything else.
    pub reads: Vec<String>,
    /// How many functions it has.
    pub functions: u32,
}

/// Why edges would refuse a link. Its writer must correct it, but where the compiler cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum PolicyCheckError {
    /// Its configuration does not fit.
    #[error("link {link} ({title}) is refused")]
    Config {
        /// Counted from 1.
        link: usize,
        /// The ready-made name or the file.
        title: String,
        /// Why.
        source: ConfigError,
    },
    /// Its component is none.
    #[error("link {link} ({title}) is refused")]
    Component {
        /// Counted from 1.
        link: usize,
        /// The ready-made name or the file.
        title: String,
        /// Why.
        source: AdmitError,
    },
    /// Its component does not compile.
    #[error("link {link} ({title}) is refused")]
    Compile {
        /// Counted from 1.
        link: usize,
        /// The ready-made name or the file.
        title: String,
        /// Why.
        source: GuardError,
    },
}

impl fmt::Display for CheckedLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reads = if self.reads.is_empty() { "nothing".to_owned() } else { self.reads.join(", ") };
        let unchecked = match self.config_keys {
            Some(_) => "",
            None => "; keys and types of its configuration are not checked, because it declares none",
        };
        let Self { component, component_bytes, config_bytes, .. } = self;
        let hooks = self.hooks.join(", ");
        write!(
            f,
            "{component}: {component_bytes} B, config {config_bytes} B; decides {hooks}; reads {reads}{unchecked}"
        )
    }
}

/// Checks every link. Blocks up to the compiler's deadline for each: run it outside of the async reactor.
///
/// # Errors
/// [`PolicyCheckError`] of the first link that would be refused.
pub fn check_policy(source: &PolicySource, compiler: &ChildCommand) -> Result<Vec<CheckedLink>, Box<PolicyCheckError>> {
    (1..).zip(&source.links).map(|(link, of)| check_link(link, of, compiler)).collect()
}

fn check_link(link: usize, of: &LinkSource, compiler: &ChildCommand) -> Result<CheckedLink, Box<PolicyCheckError>> {
    let title = || of.title.clone();
    let wrong = |source| Box::new(PolicyCheckError::Config { link, title: title(), source });
    let config = Config::parse(&of.config).map_err(wrong)?;
    let component = |source| Box::new(PolicyCheckError::Component { link, title: title(), source });
    let admitted = sandbox::admit(&of.component, &[]).map_err(component)?;
    let summary = admitted.summary();
    if let Some(keys) = &summary.keys {
        config.check(keys).map_err(wrong)?;
    }
    let compiled = |source| Box::new(PolicyCheckError::Compile { link, title: title(), source });
    guard::compile(&admitted, &[], compiler).map_err(compiled)?;
    Ok(CheckedLink {
        component: title(),
        component_bytes: of.component.len(),
        config_bytes: of.config.len(),
        config_keys: summary.keys.as_ref().map(|keys| keys.names().map(str::to_owned).collect()),
        hooks: summary.hooks.iter().map(|hook| hook.to_string()).collect(),
        reads: summary.imports.iter().map(ToString::to_string).collect(),
        functions: summary.functions,
    })
}
