//! Changes of TOML files that others have written too: comments and order stay.

use toml_edit::{Array, DocumentMut, Item, Table, TableLike, Value, value};

use super::mirrors::MirrorTargets;

/// containerd's `config.toml` with the directory of `hosts.toml` files. A new one is of version 2,
/// which all releases since 1.3 read; the plugin is called otherwise from version 3 on.
pub(super) fn containerd(text: Option<&str>) -> Result<String, String> {
    let mut document = parse(text.unwrap_or("version = 2\n"))?;
    let version = document.get("version").and_then(Item::as_integer).unwrap_or(1);
    let plugin = match version {
        2 => "io.containerd.grpc.v1.cri",
        3.. => "io.containerd.cri.v1.images",
        _ => return Err(format!("its version is {version}, which has no `config_path`")),
    };
    let registry = descend(document.as_table_mut(), &["plugins", plugin, "registry"])?;
    let path = registry.get("config_path").and_then(Item::as_str).unwrap_or_default();
    if !path.split(':').any(|path| path == CERTS) {
        registry.insert("config_path", value(CERTS));
    }
    Ok(document.to_string())
}

/// `buildkitd.toml` with Larder as the first mirror of each registry.
pub(super) fn buildkitd(text: Option<&str>, targets: &MirrorTargets) -> Result<String, String> {
    let mut document = parse(text.unwrap_or_default())?;
    let authority = targets.larder.authority.as_str();
    for registry in &targets.registries {
        let table = descend(document.as_table_mut(), &["registry", registry.as_str()])?;
        let mirrors = table.entry("mirrors").or_insert(value(Array::new()));
        let mirrors = mirrors.as_array_mut();
        let mirrors = mirrors.ok_or_else(|| format!("the mirrors of {registry} are no list"))?;
        if !mirrors.iter().filter_map(Value::as_str).any(|mirror| mirror == authority) {
            mirrors.insert(0, authority);
        }
    }
    if !targets.larder.is_tls {
        let table = descend(document.as_table_mut(), &["registry", authority])?;
        table.insert("http", value(true));
    }
    Ok(document.to_string())
}

fn parse(text: &str) -> Result<DocumentMut, String> {
    text.parse::<DocumentMut>().map_err(|error| error.to_string())
}

/// The table at a path, which is made where it is missing.
fn descend<'t>(table: &'t mut Table, path: &[&str]) -> Result<&'t mut dyn TableLike, String> {
    let mut table: &mut dyn TableLike = table;
    for (at, key) in path.iter().enumerate() {
        let is_last = at + 1 == path.len();
        let item = table.entry(key).or_insert_with(|| {
            let mut made = Table::new();
            // A header of a table that only holds tables says nothing.
            made.set_implicit(!is_last);
            Item::Table(made)
        });
        table = item.as_table_like_mut().ok_or_else(|| format!("`{key}` is no table"))?;
    }
    Ok(table)
}

const CERTS: &str = "/etc/containerd/certs.d";
