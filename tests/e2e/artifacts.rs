//! Artifacts that refer to an image, which version 1.1 of the distribution-spec added; and digests
//! by sha512, which few registries take.

use std::fs;

use crate::support::client::Client as _;
use crate::support::cosign::Cosign;
use crate::support::curl::Curl;
use crate::support::hash;
use crate::support::helm::Helm;
use crate::support::image::{ELSEWHERE, HERE, Image, small_layers};
use crate::support::larder::{Larder, Setup};
use crate::support::one_shot::{self, OneShot, holds};
use crate::support::oras::{Oras, SBOM, SIGNATURE};
use crate::support::publish::Publisher;
use crate::support::registry::{DISTRIBUTION, OLAREG, Registry};
use crate::support::tools::requires;
use crate::support::traffic::{Kind, Request};
use crate::support::way::{Door, Wanted, Way};
use crate::support::work::Work;

/// A signature of an SBOM of an image: each is found by what it refers to.
#[test]
fn oras_finds_referrers_and_pulls_them_without_the_upstream() {
    let work = Work::new(requires!(&["oras"], OLAREG));
    let mut upstream = Registry::olareg(&work);
    let image = publish(&work, &upstream, "sha256");
    let oras = Oras::new(&work);
    let direct = Way::plain(Door::Mirror, upstream.port);
    let sbom = oras.attach(&Wanted::by_tag(&image).at(&direct.place()), SBOM);
    let of_sbom = format!("{}/{}@{sbom}", direct.place(), image.repository);
    let signature = oras.attach(&of_sbom, SIGNATURE);
    let mut larder = Larder::mirror(&work, &upstream.url(), "");
    upstream.forget();

    let way = larder.by(Door::Prefix);
    let pull = |when: &str| {
        let name = Wanted::by_tag(&image).at(&way.place());
        let all = oras.discover(&name, &[]);
        assert!(all.contains(&sbom) && all.contains(&signature), "{when}: {all}");
        let sboms = oras.discover(&name, &["--artifact-type", SBOM]);
        assert!(sboms.contains(&sbom), "{when}: {sboms}");
        let none = oras.discover(&name, &["--artifact-type", "application/vnd.example.other"]);
        assert!(!none.contains(&sbom) && !none.contains(&signature), "{when}: {none}");
        let file = oras.pull(&format!("{}/{}@{sbom}", way.place(), image.repository));
        assert_eq!(file, SBOM, "{when}");
        let layout = oras.copy(&name);
        holds(&layout, &image);
        for digest in [&sbom, &signature] {
            let file = layout.join("blobs").join(digest.replace(':', "/"));
            assert_eq!(&hash::of_file(&file), digest, "{when}: the graph has the referrers");
        }
    };
    pull("cold");
    upstream.forget();
    pull("warm");
    nothing_but_tags_and_lists(&upstream);
    upstream.stop();
    pull("while the upstream is down");
    larder.restart();
    pull("after a restart, while the upstream is down");
    println!("client: oras: artifacts with referrers, from olareg");
}

/// helm finds the newest version that fits in the list of tags, and writes a `+` in it as `_`.
#[test]
fn helm_pushes_charts_and_pulls_what_fits_without_the_upstream() {
    let work = Work::new(requires!(&["helm"], OLAREG));
    let mut upstream = Registry::olareg(&work);
    let mut larder = Setup { pushes: true, ..Setup::new(&work, &upstream.url()) }.start();
    let helm = Helm::new(&work);
    let place = format!("{}/charts", larder.by(Door::Prefix).place());
    let versions = ["0.1.0", "0.2.0+build.7", "1.0.0"];
    let charts = versions.map(|version| helm.package(version));
    let files = charts.each_ref().map(|chart| fs::read(chart).expect("helm wrote it"));
    for chart in &charts {
        helm.push(&chart.display().to_string(), &place);
    }

    upstream.forget();
    let pull = |when: &str| {
        for (constraint, index) in [("0.1.0", 0), ("< 1.0.0", 1), ("0.2.0+build.7", 1), ("*", 2)] {
            let (name, bytes) = helm.pull(constraint, &place);
            assert_eq!(name, format!("demo-{}.tgz", versions[index]), "{when}: {constraint}");
            assert!(bytes == files[index], "{when}: {constraint}: other bytes");
        }
    };
    pull("pushed");
    nothing_but_tags_and_lists(&upstream);
    upstream.stop();
    pull("while the upstream is down");
    larder.restart();
    pull("after a restart, while the upstream is down");
    println!("client: helm: charts pushed and pulled by version and by range");
}

/// A signature is a referrer, or is under the tag that stands for them where a registry has no such
/// API, as docker-registry 2.8.
#[test]
fn cosign_signs_an_image_and_verifies_it_without_the_upstream() {
    let work = Work::new(requires!(&["cosign"], OLAREG, DISTRIBUTION));
    let cosign = Cosign::new(&work);
    let storage = work.new_dir("storage");
    for mut upstream in [Registry::olareg(&work), Registry::writable(&storage, &work)] {
        let url = upstream.url();
        let publisher = Publisher { registry: &url, algorithm: "sha256", work: &work };
        let platforms = [HERE, ELSEWHERE];
        let images = publisher.publish("library/signed", "1", &platforms, small_layers);
        let [image, unsigned] = images.try_into().expect("one for each platform");
        let mut larder = Setup { pushes: true, ..Setup::new(&work, &url) }.start();
        let place = larder.by(Door::Prefix).place();
        let name = |image: &Image| format!("{place}/{}@{}", image.repository, image.manifest);

        cosign.sign(&name(&image));

        let verify = |when: &str| {
            let verified = cosign.verify(&name(&image));
            let verified = verified.unwrap_or_else(|error| panic!("{url}: {when}: {error}"));
            assert!(verified.contains(&image.manifest), "{url}: {when}: {verified}");
            let error = cosign.verify(&name(&unsigned)).expect_err("it has no signature");
            assert!(error.contains("no signatures found"), "{url}: {when}: {error}");
        };
        verify("pushed");
        upstream.forget();
        verify("warm");
        nothing_but_tags_and_lists(&upstream);
        upstream.stop();
        verify("while the upstream is down");
        larder.restart();
        verify("after a restart, while the upstream is down");
    }
    println!("client: cosign: signatures pushed and verified, with and without referrers");
}

/// Everything by sha512: index, manifests, configurations, layers.
#[test]
fn content_by_sha512_is_pulled_without_the_upstream() {
    let work = Work::new(requires!(&["oras"], OLAREG));
    let mut upstream = Registry::olareg(&work);
    let image = publish(&work, &upstream, "sha512");
    assert!(image.digests().all(|digest| digest.starts_with("sha512:")), "{image:?}");
    let mut larder = Larder::mirror(&work, &upstream.url(), "");
    upstream.forget();

    let oras = OneShot::new(&work, one_shot::oras);
    let way = larder.by(Door::Prefix);
    let pull = |larder: &Larder, when: &str| {
        for wanted in [Wanted::by_tag(&image), Wanted::by_digest(&image)] {
            let pulled = oras.pull(&way, &wanted);
            pulled.unwrap_or_else(|error| panic!("{when}: {wanted}: {error}"));
        }
        let part = work.data().join("part");
        let url = larder.url(&format!("{}/blobs/{}", image.repository, image.layers[0]));
        let reply = Curl::get(&url).range("0-99").to(&part).send();
        let len = fs::metadata(&part).map(|part| part.len()).ok();
        assert_eq!((reply.status, len), (206, Some(100)), "{when}: {reply:?}");
    };
    pull(&larder, "cold");
    // Index, manifest, configuration and layers, each hashed.
    assert_eq!(larder.verified_blobs().len(), image.digests().count());
    upstream.forget();
    pull(&larder, "warm");
    nothing_but_tags_and_lists(&upstream);
    upstream.stop();
    pull(&larder, "while the upstream is down");
    larder.restart();
    pull(&larder, "after a restart, while the upstream is down");
}

fn publish(work: &Work, upstream: &Registry, algorithm: &'static str) -> Image {
    let publisher = Publisher { registry: &upstream.url(), algorithm, work };
    let images = publisher.publish("library/artifact", "1", &[HERE, ELSEWHERE], small_layers);
    images.into_iter().next().expect("one for each platform")
}

fn nothing_but_tags_and_lists(upstream: &Registry) {
    let asked = upstream.requests();
    let content = |request: &&Request| matches!(request.kind, Kind::Blob | Kind::ManifestByDigest);
    assert_eq!(asked.iter().filter(content).count(), 0, "it is cached: {asked:#?}");
}
