//! The conformance program of the OCI distribution specification, in its read-only form.

use crate::support::image::{ELSEWHERE, HERE, Image, small_layers};
use crate::support::larder::Larder;
use crate::support::oras::{Oras, SBOM};
use crate::support::publish::Publisher;
use crate::support::registry::{DISTRIBUTION, Guard, OLAREG, Registry};
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
