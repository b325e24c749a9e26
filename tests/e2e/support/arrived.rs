//! Reads a pushed image from a registry with curl, and compares it with the image that was pushed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::built::Built;
use super::curl::Curl;
use super::hash;
use super::image::{HERE, Image};
use super::tools;
use super::work::Work;

/// A registry that is read directly.
pub(crate) struct Reader<'a> {
    pub(crate) work: &'a Work,
    /// Without a path.
    pub(crate) registry: &'a str,
    /// `<user>:<password>`, if it asks.
    pub(crate) login: Option<&'a str>,
}

impl Reader<'_> {
    /// The image under a tag, every byte of it hashed; panics unless it is the one that was built.
    pub(crate) fn image(&self, repository: &str, built: &Built) -> Image {
        let tag = &built.tag;
        let (manifest, text) = self.fetch(&format!("{repository}/manifests/{tag}"));
        let config = text["config"]["digest"].as_str().expect("an image has a configuration");
        let layers: Vec<String> = text["layers"]
            .as_array()
            .expect("an image has layers")
            .iter()
            .map(|layer| layer["digest"].as_str().expect("a descriptor has one").to_owned())
            .collect();
        let diff_ids: Vec<String> =
            layers.iter().map(|layer| self.diff_id(repository, layer)).collect();
        assert_eq!(diff_ids, built.diff_ids, "{repository}:{tag}");
        let (found, config_text) = self.fetch(&format!("{repository}/blobs/{config}"));
        assert_eq!(found, config);
        assert_eq!(config_text["rootfs"]["diff_ids"], Value::from(diff_ids));

        Image {
            repository: repository.to_owned(),
            tag: tag.clone(),
            index: manifest.clone(),
            platform: HERE.to_owned(),
            manifest,
            config: config.to_owned(),
            layers,
        }
    }

    /// How long the registry says that something is.
    pub(crate) fn length(&self, path: &str) -> u64 {
        let reply = self.get(path).arg("-I").send();
        reply.header("content-length").parse().unwrap_or_else(|_| panic!("{path}: {reply:?}"))
    }

    /// The digest of a layer's content, after the layer was hashed as it is.
    fn diff_id(&self, repository: &str, layer: &str) -> String {
        let file = self.download(&format!("{repository}/blobs/{layer}"));
        assert_eq!(hash::of_file(&file), layer);
        let begin = fs::read(&file).expect("curl wrote it");
        if begin.starts_with(&GZIP) { hash::of_file(&unpacked(&file)) } else { layer.to_owned() }
    }

    fn fetch(&self, path: &str) -> (String, Value) {
        let file = self.download(path);
        let text = fs::read(&file).expect("curl wrote it");
        (hash::of_file(&file), serde_json::from_slice(&text).expect("it is JSON"))
    }

    fn download(&self, path: &str) -> PathBuf {
        let file = self.work.data().join("arrived");
        let reply = self.get(path).to(&file).send();
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        file
    }

    fn get(&self, path: &str) -> Curl {
        let curl = Curl::get(&format!("{}/v2/{path}", self.registry)).arg("-k");
        let curl = ACCEPT.iter().fold(curl, |curl, accept| {
            curl.arg("-H").arg(format!("Accept: application/vnd.{accept}+json"))
        });
        match self.login {
            Some(login) => curl.arg("-u").arg(login),
            None => curl,
        }
    }
}

fn unpacked(file: &Path) -> PathBuf {
    let to = file.with_extension("unpacked");
    let mut gzip = tools::command("gzip");
    gzip.args(["-d", "-c"]).stdin(File::open(file).expect("curl wrote it"));
    gzip.stdout(File::create(&to).expect("the test's directory can be written"));
    tools::run(&mut gzip).expect("it is compressed");
    to
}

const GZIP: [u8; 2] = [0x1f, 0x8b];

const ACCEPT: [&str; 4] = [
    "oci.image.manifest.v1",
    "oci.image.index.v1",
    "docker.distribution.manifest.v2",
    "docker.distribution.manifest.list.v2",
];
