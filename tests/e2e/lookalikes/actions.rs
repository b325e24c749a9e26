//! The commands of each client for one image, and what comes of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::curl::Curl;
use crate::support::way::{Door, Way};
use crate::support::work::Work;
use crate::support::{hash, hosts_toml, tools};

/// A client that the matrix has.
pub(crate) struct MatrixClient {
    pub(crate) program: &'static str,
    /// The actions of the client with their command lines; the words of [`Place::words`] stand for
    /// the parts that differ.
    pub(crate) actions: &'static [(&'static str, &'static str)],
}

/// The registry, repository and image of an action.
pub(crate) struct Place<'a> {
    pub(crate) work: &'a Work,
    /// For the files of the client: its log-ins.
    pub(crate) dir: PathBuf,
    pub(crate) port: u16,
    /// `<host>:<port>`, with the prefix of the door.
    pub(crate) registry: String,
    pub(crate) repository: &'static str,
    /// The digest that the tag `1` names.
    pub(crate) digest: String,
    /// `<user>:<password>`, for containerd.
    pub(crate) login: Option<String>,
    /// The target of copies: `<host>:<port>` of a registry without oddities.
    pub(crate) target: String,
}

impl Place<'_> {
    /// A command line with its placeholders filled in.
    fn words(&self, line: &str) -> Vec<String> {
        let Self { dir, registry, repository, digest, target, .. } = self;
        let login = self.login.as_deref().unwrap_or_default();
        let host = registry.split('/').next().unwrap_or_default();
        let filled = [
            ("{copying}", COPYING.to_owned()),
            ("{hosts-toml}", format!("--hosts-dir {}/hosts", dir.display())),
            ("{hosts}", format!("--host reg={host},tls=disabled --host reg={target},tls=disabled")),
            ("{repository}", format!("{registry}/{repository}")),
            ("{no-repository}", format!("{registry}/no/such")),
            ("{image}", format!("{registry}/{repository}:1")),
            ("{no-tag}", format!("{registry}/{repository}:nosuch")),
            ("{referrers-tag}", format!("{registry}/{repository}:{}", digest.replace(':', "-"))),
            // The same for every place, so that what is printed of it is, too.
            ("{copy}", format!("{target}/copied/{repository}:1")),
            ("{pulled}", self.pulled().display().to_string()),
        ];
        let line = filled.iter().fold(line.to_owned(), |line, (word, by)| line.replace(word, by));
        line.split_whitespace().map(|word| word.replace("{login}", login)).collect()
    }

    fn pulled(&self) -> PathBuf {
        self.dir.join("pulled")
    }

    /// Does one action: what was printed and left behind, or that it failed.
    pub(crate) fn outcome(&self, program: &str, line: &str) -> Outcome {
        fs::remove_dir_all(self.pulled()).ok();
        hosts_toml::write(&self.dir.join("hosts"), &Way::plain(Door::Mirror, self.port));
        let mut command = tools::command(program);
        command.env("DOCKER_CONFIG", &self.dir).env("REGCTL_CONFIG", self.dir.join("regctl"));
        command.env("REGISTRY_AUTH_FILE", self.dir.join("config.json"));
        let ran = tools::run(command.args(self.words(line)));
        let said = ran.clone().err().unwrap_or_default();
        let neutral = |text: String| {
            let text = text.replace(&self.registry, "REGISTRY");
            text.replace(&self.dir.display().to_string(), "DIR")
        };
        // For a transfer it is the progress, whose order varies.
        let is_progress = line.contains("{pulled}") || line.contains("{copy}");
        let printed = ran.map(|text| if is_progress { String::new() } else { neutral(text) }).ok();
        let copy = line.contains("{copy}").then(|| self.take_copy());
        Outcome { printed, files: files_in(&self.pulled()), copy, said }
    }

    /// The copy under the tag of copies, which is deleted then.
    fn take_copy(&self) -> String {
        let registry = format!("http://{}/v2/copied/{}", self.target, self.repository);
        let of_tag = format!("{registry}/manifests/1");
        let tagged = Curl::get(&of_tag).arg("-I").arg("-H").arg("Accept: */*").send();
        let referring = self.work.data().join("referring");
        Curl::get(&format!("{registry}/referrers/{}", self.digest)).to(&referring).send();
        let referring = fs::read_to_string(referring).unwrap_or_default();
        let digest = tagged.header("docker-content-digest");
        for reference in ["1", &self.digest.replace(':', "-"), &self.digest] {
            let of_reference = format!("{registry}/manifests/{reference}");
            Curl::get(&of_reference).arg("-X").arg("DELETE").send();
        }
        format!("{digest} {referring}")
    }
}

/// The outcome of an action.
pub(crate) struct Outcome {
    /// `None` if it failed.
    printed: Option<String>,
    /// Digests by name; of a layout's index all of it.
    files: BTreeMap<String, String>,
    copy: Option<String>,
    /// On stderr, by one that failed.
    said: String,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { printed, files, copy, said } = self;
        let text = format!("copied {copy:?}, said {said:?}, printed {printed:?}, wrote {files:?}");
        f.write_str(text.get(..4_000).unwrap_or(&text))
    }
}

impl PartialEq for Outcome {
    /// Clients word a failure by what they were answered, so it counts only that it failed.
    fn eq(&self, other: &Self) -> bool {
        (&self.printed, &self.files, &self.copy) == (&other.printed, &other.files, &other.copy)
    }
}

/// All regular files below a directory; none if it is not there.
fn files_in(dir: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        if path.is_dir() {
            let below = files_in(&path).into_iter();
            found.extend(below.map(|(file, digest)| (format!("{name}/{file}"), digest)));
        } else {
            let digest = match name.as_str() {
                "index.json" => without_times(&path),
                _ => hash::of_file(&path),
            };
            found.insert(name, digest);
        }
    }
    found
}

/// A layout's index without the times at which regctl made its entries, and in an order that does
/// not depend on what was copied first.
fn without_times(index: &Path) -> String {
    let text = fs::read(index).expect("the client wrote it");
    let mut index: Value = serde_json::from_slice(&text).expect("an index is JSON");
    if let Some(entries) = index["manifests"].as_array_mut() {
        let annotations = entries.iter_mut().filter_map(|entry| entry.get_mut("annotations"));
        for annotations in annotations.filter_map(Value::as_object_mut) {
            annotations.remove("org.opencontainers.image.created");
        }
        entries.sort_by_key(Value::to_string);
    }
    index.to_string()
}

pub(crate) const CLIENTS: [&MatrixClient; 5] = [
    &MatrixClient {
        program: "crane",
        actions: &[
            ("list", "ls {repository}"),
            ("list of none", "ls {no-repository}"),
            ("resolve", "digest {image}"),
            ("resolve of none", "digest {no-tag}"),
            ("pull", "pull --format oci {image} {pulled}"),
            ("copy", "copy {image} {copy}"),
            ("referrers", "manifest {referrers-tag}"),
        ],
    },
    &MatrixClient {
        program: "regctl",
        actions: &[
            ("list", "{hosts} tag ls {repository}"),
            ("list of none", "{hosts} tag ls {no-repository}"),
            ("resolve", "{hosts} image digest {image}"),
            ("resolve of none", "{hosts} image digest {no-tag}"),
            ("pull", "{hosts} image copy --referrers {image} ocidir://{pulled}:1"),
            ("copy", "{hosts} image copy --referrers {image} {copy}"),
            ("referrers", "{hosts} artifact list {image}"),
        ],
    },
    &MatrixClient {
        program: "skopeo",
        actions: &[
            ("list", "list-tags --tls-verify=false docker://{repository}"),
            ("list of none", "list-tags --tls-verify=false docker://{no-repository}"),
            ("resolve", "inspect --raw --tls-verify=false docker://{image}"),
            ("resolve of none", "inspect --raw --tls-verify=false docker://{no-tag}"),
            ("pull", "{copying} docker://{image} dir:{pulled}"),
            ("copy", "{copying} docker://{image} docker://{copy}"),
            ("referrers", "inspect --raw --tls-verify=false docker://{referrers-tag}"),
        ],
    },
    &MatrixClient {
        program: "oras",
        actions: &[
            ("list", "repo tags --plain-http {repository}"),
            ("list of none", "repo tags --plain-http {no-repository}"),
            ("resolve", "resolve --plain-http {image}"),
            ("resolve of none", "resolve --plain-http {no-tag}"),
            ("pull", "copy -r --no-tty --from-plain-http {image} --to-oci-layout {pulled}:1"),
            ("copy", "copy -r --no-tty --from-plain-http {image} --to-plain-http {copy}"),
            ("referrers", "discover --plain-http --format json {image}"),
        ],
    },
    &MatrixClient {
        program: "containerd-pull",
        actions: &[
            ("pull", "{hosts-toml} --user {login} {image} {pulled}"),
            ("pull of none", "{hosts-toml} --user {login} {no-tag} {pulled}"),
            ("referrers", "{hosts-toml} --user {login} --referrers {image}"),
        ],
    },
];

/// The options of skopeo that copy all manifests of an index unchanged.
const COPYING: &str = "--insecure-policy copy --quiet --all --preserve-digests \
                       --src-tls-verify=false --dest-tls-verify=false";
