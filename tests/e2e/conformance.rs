//! The conformance program of the OCI distribution specification: in its read-only form, and whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::support::client::Login;
use crate::support::image::{ELSEWHERE, HERE, Image, small_layers};
use crate::support::larder::{Larder, Setup};
use crate::support::oras::{Oras, SBOM};
use crate::support::publish::Publisher;
use crate::support::registry::{DISTRIBUTION, Guard, OLAREG, Registry};
use crate::support::token_server::{HTPASSWD, htpasswd};
use crate::support::tools::{self, requires};
use crate::support::way::{Door, Wanted, Way};
use crate::support::work::{Work, kept};

/// The pull category is the one that every registry has to have; pushes go elsewhere.
#[test]
fn conformance_finds_no_fault_with_pulls_through_larder() {
    if !is_here() {
        return;
    }
    let work = Work::new(requires!(DISTRIBUTION));
    let image = Image::debian();
    let upstream = Registry::start(&work, &Guard::Open);
    let larder = Larder::mirror(&work, &upstream.url(), "");

    // docker-registry 2.8 has no referrers for Larder to pass on.
    let mut program = program(&larder, &image);
    program.env("OCI_API_REFERRER", "false");
    passes(program, &PULL);
}

/// Content discovery: tags and referrers. And sha512 among the digests.
#[test]
fn conformance_finds_no_fault_with_referrers_through_larder() {
    if !is_here() {
        return;
    }
    let work = Work::new(requires!(&["oras"], OLAREG));
    let upstream = Registry::olareg(&work);
    let url = upstream.url();
    let [image, by_sha512] = ["sha256", "sha512"].map(|algorithm| {
        let publisher = Publisher { registry: &url, algorithm, work: &work };
        publisher
            .publish("library/artifact", algorithm, &[HERE, ELSEWHERE], small_layers)
            .swap_remove(0)
    });
    let direct = Way::plain(Door::Mirror, upstream.port);
    Oras::new(&work).attach(&Wanted::by_tag(&image).at(&direct.place()), SBOM);
    let larder = Larder::mirror(&work, &url, "");

    let mut program = program(&larder, &image);
    program.env("OCI_RO_DATA_TAGS", format!("{} {}", image.tag, by_sha512.tag));
    let images = [&image, &by_sha512];
    let manifests = images.iter().flat_map(|image| [image.index.as_str(), &image.manifest]);
    program.env("OCI_RO_DATA_MANIFESTS", manifests.collect::<Vec<_>>().join(" "));
    let blobs = images.iter().flat_map(|image| image.blobs());
    program.env("OCI_RO_DATA_BLOBS", blobs.collect::<Vec<_>>().join(" "));
    program.env("OCI_RO_DATA_REFERRERS", &image.index);
    passes(program, &[&PULL[..], &DISCOVERY].concat());
}

/// All four categories, with all kinds of data, row by row: a client of Larder finds what a client
/// of the registry finds. olareg knows all of the specification.
#[test]
fn conformance_through_larder_is_that_of_olareg_row_by_row() {
    if !is_here() {
        return;
    }
    let work = Work::new(requires!(OLAREG, HTPASSWD));
    let [straight, behind] = [(); 2].map(|()| Registry::olareg(&work));

    let [straight, through] = straight_and_through(&work, &straight, &behind);

    // It takes no image whose layers it was not given.
    let known = |row: &&String| row.contains("/non-distributable-layers/");
    let unknown: Vec<_> = straight.failed().filter(|row| !known(row)).collect();
    assert!(unknown.is_empty(), "the registry fails more than it should: {unknown:?}");
    through.is_that_of(&straight, &[ANONYMOUS_MOUNTS]);
}

/// Most registries are made of this one, and it knows less: no referrers, and sha512 only in part.
/// Larder adds to it only where it answers by itself.
#[test]
fn conformance_through_larder_is_that_of_docker_registry_row_by_row() {
    if !is_here() {
        return;
    }
    let work = Work::new(requires!(DISTRIBUTION, HTPASSWD));
    let [straight, behind] =
        ["straight", "behind"].map(|name| Registry::guarded(&work.dir(name), &work, &Guard::Open));

    let [straight, through] = straight_and_through(&work, &straight, &behind);

    through.is_that_of(&straight, &[ANONYMOUS_MOUNTS, MALFORMED_DIGESTS, RANGES, SHA512]);
}

/// Rows that Larder answers better than the registry does: parts of their names.
type Better = &'static [&'static str];

/// The registry mounts only from a repository that is named, and Larder names one that it knows of.
const ANONYMOUS_MOUNTS: Better = &[" blobs/mount anonymous/"];

/// Larder refuses what is no digest as malformed, where the registry does not find it.
const MALFORMED_DIGESTS: Better = &["/invalid-digest-format/manifest-"];

/// Larder serves ranges from its cache, and refuses those that cannot be satisfied.
const RANGES: Better = &["/range requests/range 500-0", "/range requests/range 5000-10000"];

/// Larder has what was pushed under the digest it was pushed by, the registry by sha256 alone.
const SHA512: Better = &["/sha512 blobs/", "/sha512/head/blob-head", "/sha512/pull/blob-get"];

/// The program's findings at one registry, and through Larder at another of the same kind.
fn straight_and_through(work: &Work, straight: &Registry, behind: &Registry) -> [Findings; 2] {
    let users = htpasswd(work, &[CI]);
    let access = format!(
        "anonymous = \"none\"\nchallenge = \"basic\"\nhtpasswd = \"{}\"\n\
         [[access.rule]]\nusers = [\"{}\"]\nactions = [\"pull\", \"push\", \"delete\"]\n",
        users.display(),
        CI.user,
    );
    let url = behind.url();
    let larder = Setup { pushes: true, access_keys: &access, ..Setup::new(work, &url) }.start();
    let straight = format!("127.0.0.1:{}", straight.port);
    [
        Findings::of(&straight, None, &work.log("straight")),
        Findings::of(&larder.address(), Some(CI), &work.log("through")),
    ]
}

/// The whole program's report on a registry: for each row, how its steps ended, sorted.
struct Findings {
    rows: BTreeMap<String, Vec<String>>,
}

impl Findings {
    /// Its reports are kept in `results`.
    fn of(registry: &str, login: Option<Login>, results: &Path) -> Self {
        let mut program = tools::command("conformance");
        program.env("OCI_REGISTRY", registry).env("OCI_TLS", "disabled");
        program.env("OCI_REPO1", "library/one").env("OCI_REPO2", "library/two");
        program.env("OCI_VERSION", "1.1").env("OCI_RESULTS_DIR", results);
        if let Some(Login { user, password }) = login {
            program.env("OCI_USERNAME", user).env("OCI_PASSWORD", password);
        }
        let output = program.output().expect("the conformance program can be run");
        println!("{registry}: {}", String::from_utf8_lossy(&output.stdout));
        let report = fs::read_to_string(results.join("junit.xml")).expect("there is a report");
        Self { rows: rows(&report) }
    }

    fn failed(&self) -> impl Iterator<Item = &String> {
        let failed = self.rows.iter().filter(|(_, ends)| ends.iter().any(|end| end == "failure"));
        failed.map(|(row, _)| row)
    }

    /// Fails unless both have the same rows with the same results, apart from those of `better`:
    /// each of these has to be there, and to pass.
    fn is_that_of(&self, straight: &Self, better: &[Better]) {
        assert!(straight.rows.len() > 300, "{} rows only", straight.rows.len());
        let rows: BTreeSet<_> = straight.rows.keys().chain(self.rows.keys()).collect();
        let mut unused: BTreeSet<_> = better.iter().copied().flatten().copied().collect();
        let mut worse = Vec::new();
        for row in rows {
            let [through, straight] = [self, straight].map(|findings| findings.rows.get(row));
            let passes = through.is_some_and(|ends| ends.iter().all(|end| end == "passed"));
            let mut better = better.iter().copied().flatten();
            match better.find(|part| row.contains(*part)) {
                _ if through == straight => {}
                Some(part) if passes => drop(unused.remove(part)),
                _ => worse.push(format!("{row}: {straight:?}, through Larder {through:?}")),
            }
        }
        assert!(worse.is_empty(), "\n{}\n", worse.join("\n"));
        assert!(unused.is_empty(), "no better than the registry: {unused:?}");
    }
}

/// From lines such as `<testcase name="OCI Conformance Test/ping" … status="passed">`.
fn rows(junit: &str) -> BTreeMap<String, Vec<String>> {
    let attribute = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!(" {name}=\""))?;
        Some(rest.split('"').next()?.to_owned())
    };
    let mut rows = BTreeMap::<_, Vec<_>>::new();
    for line in junit.lines().filter(|line| line.trim_start().starts_with("<testcase ")) {
        if let (Some(name), Some(status)) = (attribute(line, "name"), attribute(line, "status")) {
            rows.entry(name).or_default().push(status);
        }
    }
    // The program takes the steps of one row in any order.
    for ends in rows.values_mut() {
        ends.sort_unstable();
    }
    rows
}

/// Never a failure: it has no release, so not every machine can install it.
fn is_here() -> bool {
    let here = tools::has("conformance");
    if !here {
        println!("skipped: conformance: the OCI conformance program is not here");
    }
    here
}

/// Set up to find an image, and nothing else.
fn program(larder: &Larder, image: &Image) -> std::process::Command {
    let mut program = tools::command("conformance");
    program.env("OCI_REGISTRY", larder.address()).env("OCI_TLS", "disabled");
    program.env("OCI_REPO1", &image.repository).env("OCI_VERSION", "1.1");
    program.env("OCI_RESULTS_DIR", kept().join("conformance"));
    for off in ["PUSH", "TAGS_DELETE", "MANIFESTS_DELETE", "BLOBS_DELETE"] {
        program.env(format!("OCI_API_{off}"), "false");
    }
    program.env("OCI_RO_DATA_TAGS", &image.tag);
    program.env("OCI_RO_DATA_MANIFESTS", format!("{} {}", image.index, image.manifest));
    program.env("OCI_RO_DATA_BLOBS", image.blobs().collect::<Vec<_>>().join(" "));
    program
}

/// Each of the interfaces, and the whole.
fn passes(mut program: std::process::Command, interfaces: &[&str]) {
    // The report counts, not the exit code: without pushes the program has printed its report
    // when it trips over one that it writes to a file (ReportResultsYAML, a data set that was
    // never made). Its switches that require digest headers do not work without pushes either.
    let output = program.output().expect("the conformance program can be run");
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{report}");

    assert!(report.contains("OCI Conformance Result: Pass"));
    for interface in interfaces {
        let line = report.lines().find(|line| line.trim_start().starts_with(interface));
        let line = line.unwrap_or_else(|| panic!("the report has no line `{interface}`"));
        assert!(line.trim_end().ends_with(" Pass"), "{line}");
    }
}

/// A user of Larder's who may do everything.
const CI: Login = Login { user: "ci", password: "right-51e0" };

/// The rows of its report under "API conformance" for the pull category.
const PULL: [&str; 7] = [
    "Blob get..",
    "Blob head..",
    "Manifest get by digest..",
    "Manifest get by tag..",
    "Manifest head by digest..",
    "Manifest head by tag..",
    "Ping..",
];

/// The same for content discovery.
const DISCOVERY: [&str; 2] = ["Tag listing..", "Referrers.."];
