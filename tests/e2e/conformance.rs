//! The conformance program of the OCI distribution specification: in its read-only form, and whole.

use std::collections::{BTreeMap, BTreeSet};

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

/// All four categories, with all kinds of data: what Larder passes on is what the registry does. One
/// thing may differ, for the better: olareg mounts only from a repository that is named, and Larder
/// names one that it knows of.
#[test]
fn conformance_finds_through_larder_what_it_finds_without() {
    if !is_here() {
        return;
    }
    let work = Work::new(requires!(OLAREG, HTPASSWD));
    let (straight, behind) = (Registry::olareg(&work), Registry::olareg(&work));
    let users = htpasswd(&work, &[CI]);
    let access = format!(
        "anonymous = \"none\"\nchallenge = \"basic\"\nhtpasswd = \"{}\"\n\
         [[access.rule]]\nusers = [\"{}\"]\nactions = [\"pull\", \"push\", \"delete\"]\n",
        users.display(),
        CI.user,
    );
    let url = behind.url();
    let larder = Setup { pushes: true, access_keys: &access, ..Setup::new(&work, &url) }.start();

    let straight = Findings::of(&format!("127.0.0.1:{}", straight.port), None);
    let through = Findings::of(&larder.address(), Some(CI));

    // It takes no image whose layers it was not given.
    let known = |name: &&String| name.contains("/non-distributable-layers/");
    let unknown: Vec<_> = straight.failed.iter().filter(|name| !known(name)).collect();
    assert!(unknown.is_empty(), "the registry fails more than it should: {unknown:?}");
    assert_eq!(through.failed, straight.failed);
    for (what, result) in &straight.results {
        let through = through.results.get(what).map(String::as_str);
        let is_better = what == "Blob anonymous mount" && result == "Skip";
        let result = if is_better { "Pass" } else { result };
        assert_eq!(through, Some(result), "{what}");
    }
    assert!(straight.results.len() > 40, "{:?}", straight.results);
}

/// What the whole program says of a registry.
struct Findings {
    /// By interface, and by kind of data.
    results: BTreeMap<String, String>,
    /// The names of tests.
    failed: BTreeSet<String>,
}

impl Findings {
    fn of(registry: &str, login: Option<Login>) -> Self {
        let mut program = tools::command("conformance");
        program.env("OCI_REGISTRY", registry).env("OCI_TLS", "disabled");
        program.env("OCI_REPO1", "library/one").env("OCI_REPO2", "library/two");
        program.env("OCI_VERSION", "1.1").env("OCI_RESULTS_DIR", kept().join("conformance"));
        if let Some(Login { user, password }) = login {
            program.env("OCI_USERNAME", user).env("OCI_PASSWORD", password);
        }
        let output = program.output().expect("the conformance program can be run");
        let [said, report] =
            [&output.stderr, &output.stdout].map(|text| String::from_utf8_lossy(text).into_owned());
        println!("{registry}: {report}");
        let failed = said.lines().chain(report.lines()).filter_map(|line| {
            let (_, rest) = line.split_once("msg=\"failed test\" name=\"")?;
            Some(rest.split('"').next()?.to_owned())
        });
        // `  Tag listing...................:       Pass`
        let (_, tables) = report.split_once("API conformance:").expect("there is a report");
        let results = tables.lines().filter_map(|line| {
            let (what, result) = line.split_once(':')?;
            let what = what.trim().trim_end_matches('.');
            Some((what.to_owned(), result.trim().to_owned()))
        });
        Self { results: results.collect(), failed: failed.collect() }
    }
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

/// What its report lists under "API conformance" for the pull category.
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
