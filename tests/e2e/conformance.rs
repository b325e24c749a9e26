//! The conformance program of the OCI distribution specification, in its read-only form.

use crate::support::image::Image;
use crate::support::larder::Larder;
use crate::support::registry::{DISTRIBUTION, Guard, Registry};
use crate::support::tools::{self, requires};
use crate::support::work::{Work, kept};

/// The pull category is the one that every registry has to have; pushes go elsewhere.
#[test]
fn conformance_finds_no_fault_with_pulls_through_larder() {
    if !tools::has("conformance") {
        // Never a failure: it has no release, so not every machine can install it.
        println!("skipped: conformance: the OCI conformance program is not here");
        return;
    }
    let test = requires!(DISTRIBUTION);
    let image = Image::debian();
    let work = Work::new(test);
    let upstream = Registry::start(&work, &Guard::Open);
    let larder = Larder::mirror(&work, &upstream.url(), "");

    let report = report(&larder.address(), &image);
    println!("{report}");

    assert!(report.contains("OCI Conformance Result: Pass"));
    for api in MANDATORY {
        let line = report.lines().find(|line| line.trim_start().starts_with(api));
        let line = line.unwrap_or_else(|| panic!("the report has no line `{api}`"));
        assert!(line.trim_end().ends_with(" Pass"), "{line}");
    }
}

fn report(registry: &str, image: &Image) -> String {
    let mut program = tools::command("conformance");
    program.env("OCI_REGISTRY", registry).env("OCI_TLS", "disabled");
    program.env("OCI_REPO1", &image.repository).env("OCI_VERSION", "1.1");
    program.env("OCI_RESULTS_DIR", kept().join("conformance"));
    // docker-registry 2.8 has no referrers for Larder to pass on.
    for off in ["PUSH", "REFERRER", "TAGS_DELETE", "MANIFESTS_DELETE", "BLOBS_DELETE"] {
        program.env(format!("OCI_API_{off}"), "false");
    }
    program.env("OCI_RO_DATA_TAGS", &image.tag);
    program.env("OCI_RO_DATA_MANIFESTS", format!("{} {}", image.index, image.manifest));
    program.env("OCI_RO_DATA_BLOBS", image.blobs().collect::<Vec<_>>().join(" "));

    // The report counts, not the exit code: without pushes the program has printed its report
    // when it trips over one that it writes to a file (ReportResultsYAML, a data set that was
    // never made). Its switches that require digest headers do not work without pushes either.
    let output = program.output().expect("the conformance program can be run");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What its report lists under "API conformance" for the pull category.
const MANDATORY: [&str; 7] = [
    "Blob get..",
    "Blob head..",
    "Manifest get by digest..",
    "Manifest get by tag..",
    "Manifest head by digest..",
    "Manifest head by tag..",
    "Ping..",
];
