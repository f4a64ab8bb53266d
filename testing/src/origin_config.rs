//! The least that an origin's configuration says.

use std::path::Path;

/// Returns the configuration of an origin on a free port of loopback. `settings` are lines of the top level, as
/// `capacity_bytes = 1` or `limits.sweep_seconds = 1`.
#[must_use]
pub fn origin_config(name: &str, data_dir: &Path, catalog: &str, settings: &str) -> String {
    format!(
        "name = \"{name}\"\nlisten = \"127.0.0.1:0\"\ndata_dir = {data_dir:?}\ncatalog = \"{catalog}\"\n{settings}\n\
         [place]\ncountry = \"BE\"\nregion = \"eu-west\"\nzone = \"z-{name}\"\nlatitude = 50.8\nlongitude = 4.3\n"
    )
}
