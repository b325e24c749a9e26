//! Clients at look-alikes of the registries that are used most, directly and through Larder: they
//! list, resolve, pull, copy and find referrers with the same outcome.
//!
//! Directly a client logs in where the look-alike wants it; through Larder it has no login, and
//! Larder has that one.

mod actions;
mod answers;
mod content;
mod vendors;
pub(crate) mod wire;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use actions::{CLIENTS, Place};
use answers::LookAlike;
use vendors::VENDORS;

use crate::support::larder::{Larder, Setup};
use crate::support::registry::{OLAREG, Registry};
use crate::support::tools::requires;
use crate::support::way::Door;
use crate::support::work::Work;

/// Rows that fail directly, where that redirect is followed to a page which answers 429. Larder
/// says that there is no such API, and the client goes on with the tag that stands for it.
const BETTER: [&str; 3] = ["ghcr: oras: pull", "ghcr: oras: copy", "ghcr: oras: referrers"];

#[test]
fn clients_do_through_larder_what_they_do_directly() {
    let tools = CLIENTS.map(|client| client.program);
    let work = Work::new(requires!(&tools[..], OLAREG));
    let target = Registry::olareg(&work);
    let mut different = Vec::new();
    for traits in VENDORS {
        let upstream = LookAlike::start(traits);
        let direct = directly(&work, &upstream, &target);
        let (larder, through) = through_larder(&work, &upstream, &target);
        for client in CLIENTS {
            for (action, line) in client.actions {
                let row = format!("{}: {}: {action}", traits.name, client.program);
                let want = direct.outcome(client.program, line);
                let have = through.outcome(client.program, line);
                let is_known = BETTER.contains(&row.as_str());
                if want != have && !is_known {
                    different.push(format!("{row}:\n directly {want}\n through {have}"));
                }
            }
        }
        drop(larder);
    }
    assert!(different.is_empty(), "{} rows differ:\n{}", different.len(), different.join("\n"));
    let names: Vec<&str> = VENDORS.iter().map(|vendor| vendor.name).collect();
    println!(
        "client: crane, regctl, skopeo, oras, containerd: look-alikes of {}",
        names.join(", ")
    );
}

/// At the look-alike itself, with its login.
fn directly<'a>(work: &'a Work, upstream: &LookAlike, target: &Registry) -> Place<'a> {
    let LookAlike { traits, port, content } = upstream;
    let registry = format!("127.0.0.1:{port}");
    let login = traits.auth.login().map(|login| login.to_string());
    let auths = match &login {
        Some(login) => json!({ &registry: { "auth": STANDARD.encode(login) } }),
        None => json!({}),
    };
    let dir = work.new_dir("direct");
    let config = json!({ "auths": auths }).to_string();
    std::fs::write(dir.join("config.json"), config).expect("the test's directory can be written");
    Place {
        work,
        dir,
        port: *port,
        registry,
        repository: traits.repository,
        digest: content.image.clone(),
        login,
        target: format!("127.0.0.1:{}", target.port),
    }
}

/// By a new Larder's mirror door, without a login.
fn through_larder<'a>(
    work: &'a Work,
    upstream: &LookAlike,
    target: &Registry,
) -> (Larder, Place<'a>) {
    let LookAlike { traits, port, content } = upstream;
    let auth = traits.auth.login().map_or_else(String::new, |login| {
        let (user, password) = (login.user, login.password);
        format!("auth = {{ type = \"basic\", username = \"{user}\", password = \"{password}\" }}\n")
    });
    let keys = format!("redirect_hosts = [\"localhost\"]\n{auth}");
    let url = format!("http://127.0.0.1:{port}");
    let setup = Setup { registry_keys: &keys, tag_ttl: "60s", ..Setup::new(work, &url) };
    let larder = Setup { has_host: false, ..setup }.start();
    let dir = work.new_dir("through");
    std::fs::write(dir.join("config.json"), "{}").expect("the test's directory can be written");
    let way = larder.by(Door::Mirror);
    let place = Place {
        work,
        dir,
        port: larder.port,
        registry: way.place(),
        repository: traits.repository,
        digest: content.image.clone(),
        login: None,
        target: format!("127.0.0.1:{}", target.port),
    };
    (larder, place)
}
