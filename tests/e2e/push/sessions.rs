//! Uploads by hand: one that goes on after Larder was killed; one that is not let in at all.

use std::fs;

use super::{REPOSITORY, empty, open};
use crate::support::built::Built;
use crate::support::client::KINDS;
use crate::support::curl::{Curl, Reply};
use crate::support::hash;
use crate::support::larder::{Larder, Setup};
use crate::support::registry::{DISTRIBUTION, Guard};
use crate::support::tools::{present, requires};
use crate::support::wait;
use crate::support::way::Door;
use crate::support::work::Work;

/// The session is the registry's, and its name is all that Larder needs. The part that passed
/// before is not in the cache after that, which costs a miss.
#[test]
fn an_upload_goes_on_after_larder_was_killed_between_two_requests() {
    let work = Work::new(requires!(DISTRIBUTION));
    let upstream = empty(&work, &Guard::Open);
    let mut larder = open(&work, &upstream, "");
    let blob = work.file("blob", &"a blob that is pushed in two parts\n".repeat(100_000));
    let digest = hash::of_file(&blob);
    let bytes = fs::read(&blob).expect("a file that was just written");
    let (first, second) = bytes.split_at(bytes.len() / 2);

    let begun = Curl::get(&larder.url(&format!("{REPOSITORY}/blobs/uploads/")));
    let begun = begun.arg("-X").arg("POST").send();
    assert_eq!(begun.status, 202, "{begun:?}");
    let appended = send(&work, &location(&larder, &begun), "PATCH", first);
    assert_eq!(appended.status, 202, "{appended:?}");
    assert_eq!(larder.uploads().len(), 1, "the copy");

    larder.kill();
    larder.start();

    // It cannot be gone on with.
    wait::until("the copy is gone", wait::DAEMON, || larder.uploads().is_empty().then_some(()));
    let status = Curl::get(&location(&larder, &appended)).send();
    assert_eq!(status.status, 204, "{status:?}");
    assert_eq!(status.header("range"), format!("0-{}", first.len() - 1));
    let appended = send(&work, &location(&larder, &appended), "PATCH", second);
    assert_eq!(appended.status, 202, "{appended:?}");
    let end = format!("{}&digest={digest}", location(&larder, &appended));
    let end = if end.contains('?') { end } else { end.replacen('&', "?", 1) };
    let ended = Curl::get(&end).arg("-X").arg("PUT").send();
    assert_eq!(ended.status, 201, "{ended:?}");

    assert!(larder.verified_blobs().is_empty(), "half of it is not kept");
    assert!(larder.uploads().is_empty(), "{:?}", larder.uploads());
    for url in
        [location(&larder, &ended), format!("{}/v2/{REPOSITORY}/blobs/{digest}", upstream.url())]
    {
        let file = work.data().join("read");
        let read = Curl::get(&url).to(&file).send();
        assert_eq!((read.status, hash::of_file(&file)), (200, digest.clone()), "{url}: {read:?}");
    }
    assert_eq!(larder.verified_blobs().len(), 1, "it came with the miss");
}

/// The first request is refused, and what people read says what to change, and where.
#[test]
fn a_refused_push_tells_the_user_which_registry_takes_no_pushes_and_why() {
    let test = requires!(DISTRIBUTION);
    let work = Work::new(test);
    let mut upstream = empty(&work, &Guard::Open);
    let larder = Setup::new(&work, &upstream.url()).start();
    let way = larder.by(Door::Mirror);
    let built = Built::version(&work, "2.3.0");

    for kind in KINDS.into_iter().filter(|client| present(test, &[client.tools])) {
        upstream.forget();
        let said = (kind.start)(&work, &way).push(&way, &built, REPOSITORY);
        let said = said.expect_err("no pushes are taken");
        println!("{}: {said}", kind.name);
        let asked = upstream.requests();
        let changing = asked.iter().filter(|it| !matches!(it.method.as_str(), "GET" | "HEAD"));
        assert_eq!(changing.count(), 0, "{}: {asked:#?}", kind.name);
        if kind.name != "containerd" && kind.name != "containerd-pull" {
            for word in ["docker.io", "push = true"] {
                assert!(said.contains(word), "{}: {said}", kind.name);
            }
        }
    }
}

/// The target of an answer: a path, whatever stands in front of Larder.
fn location(larder: &Larder, reply: &Reply) -> String {
    let location = reply.header("location");
    assert!(location.starts_with('/'), "{reply:?}");
    format!("http://{}{location}", larder.address())
}

fn send(work: &Work, url: &str, method: &str, bytes: &[u8]) -> Reply {
    let file = work.data().join("part");
    fs::write(&file, bytes).expect("the test's directory can be written");
    Curl::get(url).arg("-X").arg(method).arg("-T").arg(file).send()
}
