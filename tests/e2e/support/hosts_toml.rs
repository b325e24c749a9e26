//! The file that tells containerd which hosts to ask for a registry.

use std::fs;
use std::path::Path;

use super::way::{Door, Way};

/// Writes `<hosts>/<registry>/hosts.toml` for one way, and no other; what stands before the
/// repository in the names that go it.
///
/// All is sent there, its last resort (`server`) included.
pub(crate) fn write(hosts: &Path, way: &Way<'_>) -> String {
    let (name, place, url) = match way.door {
        Door::Ns => (way.registry.to_owned(), way.registry.to_owned(), way.url()),
        Door::Registry => {
            let registry = way.registry;
            (registry.to_owned(), registry.to_owned(), format!("{}/{registry}", way.url()))
        }
        Door::Mirror | Door::Prefix | Door::Host => (way.authority(), way.place(), way.url()),
    };
    let ca = way.tls.map_or_else(String::new, |tls| format!("ca = \"{}\"\n", tls.ca.display()));
    let text = format!(
        "server = \"{url}\"\n{ca}\n\
         [host.\"{url}\"]\n\
         capabilities = [\"pull\", \"resolve\", \"push\"]\n{ca}"
    );

    fs::remove_dir_all(hosts).ok();
    let dir = hosts.join(name);
    fs::create_dir_all(&dir).expect("the test's directory can be written");
    fs::write(dir.join("hosts.toml"), text).expect("a new file can be written");
    place
}
