//! dockerd: its mirrors in `daemon.json`, and a `hosts.toml` for each registry, which a daemon that
//! keeps images in containerd's store reads and every other one ignores.

use serde_json::{Map, Value};

use super::containerd::hosts;
use super::mirrors::MirrorTargets;
use super::plan::{ClientFileError, ExistingFiles, SetupPlan};

pub(super) fn plan(
    targets: &MirrorTargets,
    files: &ExistingFiles<'_>,
) -> Result<SetupPlan, ClientFileError> {
    let mut planned =
        vec![files.plan("etc/docker/daemon.json", |text| daemon(text.unwrap_or(""), targets))?];
    for registry in &targets.registries {
        let path = format!("{HOSTS}/{registry}/hosts.toml");
        planned.push(files.plan(&path, |_| Ok(hosts(targets, registry)))?);
    }
    let next = vec!["restart dockerd (`systemctl restart docker`)".to_owned()];
    Ok(SetupPlan { files: planned, document: None, next })
}

/// `daemon.json` with Larder as the first mirror. Plain HTTP to another machine has to be allowed.
fn daemon(text: &str, targets: &MirrorTargets) -> Result<String, String> {
    let mut options: Map<String, Value> = if text.trim().is_empty() {
        Map::new()
    } else {
        serde_json::from_str(text).map_err(|error| error.to_string())?
    };
    let larder = &targets.larder;
    if targets.registries.iter().any(|registry| registry.as_str() == DOCKER_HUB) {
        let is_larder = |mirror: &str| mirror.trim_end_matches('/') == larder.to_string();
        put_first(&mut options, "registry-mirrors", &larder.to_string(), is_larder)?;
    }
    if !larder.is_tls && !larder.is_loopback() {
        let is_larder = |host: &str| host == larder.authority;
        put_first(&mut options, "insecure-registries", &larder.authority, is_larder)?;
    }
    // An object of JSON always serialises.
    let text = serde_json::to_string_pretty(&options).unwrap_or_default();
    Ok(format!("{text}\n"))
}

/// Puts a text before the others of a list, unless the list has it.
fn put_first(
    options: &mut Map<String, Value>,
    key: &str,
    text: &str,
    is_it: impl Fn(&str) -> bool,
) -> Result<(), String> {
    let list = options.entry(key).or_insert_with(|| Value::Array(Vec::new()));
    let list = list.as_array_mut().ok_or_else(|| format!("`{key}` is no list"))?;
    if !list.iter().filter_map(Value::as_str).any(is_it) {
        list.insert(0, text.into());
    }
    Ok(())
}

/// The one registry that dockerd uses its mirrors for.
const DOCKER_HUB: &str = "docker.io";

/// The directory of the files for each registry, below the root.
pub(super) const HOSTS: &str = "etc/docker/certs.d";
