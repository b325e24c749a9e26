//! Upstreams that are not a whole host: a registry below a path, and a project of a registry. To
//! clients they look like any other registry.

use bytes::Bytes;
use http::Method;
use larder::upstream::UpstreamOptions;

use crate::support::{Auth, Blob, Fault, Image, Manifest, Proxy, ScriptedRegistry, Setup, When};

/// The path of the registry at its host, how the upstream's URL ends, and how the upstream's names
/// of repositories begin.
const PLACES: [(&str, &str, &str); 9] = [
    ("", "", ""),
    ("", "/v2/", ""),
    ("/artifactory/api/docker/hub", "/artifactory/api/docker/hub", ""),
    ("/repository/docker-hub", "/repository/docker-hub/v2", ""),
    ("/ghcr.io", "/ghcr.io", ""),
    ("", "/v2/hub-proxy", "hub-proxy/"),
    ("", "/v2/ghcr.io/", "ghcr.io/"),
    ("", "/v2/group/dependency_proxy/containers", "group/dependency_proxy/containers/"),
    ("/registry", "/registry/v2/team/hub", "team/hub/"),
];

/// An upstream at one of the places that wants tokens, with a proxy before it that takes pushes.
async fn place(path: &str, ending: &str) -> (ScriptedRegistry, Proxy) {
    let hub = ScriptedRegistry::new();
    hub.is_below(path);
    hub.requires(Auth::tokens(&format!("http://registry.corp{path}/token")));
    let mut setup = Setup::new();
    let options = setup.registry("registry.corp", &hub);
    options.upstream.url = format!("http://registry.corp{ending}").parse().unwrap();
    options.rules.push = true;
    (hub, setup.start().await)
}

#[tokio::test(start_paused = true)]
async fn an_image_is_pulled_from_a_registry_below_a_path_and_from_a_project() {
    for (path, ending, project) in PLACES {
        let (hub, proxy) = place(path, ending).await;
        let image = Image::random(1, &[1000, 2000]);
        let upstream = format!("{project}library/app");
        hub.put_image(&upstream, "1", &image);

        proxy.pull("library/app", "1", &image).await;
        proxy.head("/v2/library/app/manifests/1").await.assert_status(200);

        let scopes: Vec<_> = hub.gets("/token").iter().flat_map(|it| it.query("scope")).collect();
        assert_eq!(scopes, [format!("repository:{upstream}:pull")], "{ending}");
        let outside = proxy.get("/v2/library/other/manifests/1").await;
        outside.assert_status(404);
    }
}

/// A pull must not reach another project than the one that is configured.
#[tokio::test(start_paused = true)]
async fn nothing_beside_a_project_is_reached() {
    for (path, ending, project) in PLACES.into_iter().filter(|(_, _, project)| !project.is_empty())
    {
        let (hub, proxy) = place(path, ending).await;
        hub.put_image("library/app", "1", &Image::random(1, &[1000]));

        for path in ["/v2/library/app/manifests/1", "/v2/library/app/tags/list"] {
            proxy.get(path).await.assert_status(404);
        }

        let name = format!("/v2/{project}");
        let paths: Vec<_> = hub.asked().iter().map(|asked| asked.path().to_owned()).collect();
        let is_inside = |it: &String| it.starts_with(&name) || it == "/token" || it == "/v2/";
        assert!(paths.iter().all(is_inside), "{paths:?}");
    }
}

/// The next page is asked for by the client's name, whatever name the upstream's link has.
#[tokio::test(start_paused = true)]
async fn lists_of_a_project_go_on_under_the_clients_name() {
    for (path, ending, project) in PLACES {
        let (hub, proxy) = place(path, ending).await;
        let own = format!("{path}/v2/{project}library/app/tags/list?n=2&last=b");
        let link = vec![("Link", format!("<{own}>; rel=\"next\""))];
        hub.breaks(When::asked("n=1"), Fault::Status(200, link, "{\"tags\":[\"b\"]}"));
        hub.breaks(When::asked("last=b"), Fault::Status(200, vec![], "{\"tags\":[\"c\"]}"));

        let first = proxy.get("/v2/library/app/tags/list?n=1").await;
        first.assert_status(200);
        let next = "/v2/library/app/tags/list?n=2&last=b";
        assert_eq!(first.header("link"), Some(&*format!("<{next}>; rel=\"next\"")), "{ending}");
        assert_eq!(proxy.get(next).await.text(), "{\"tags\":[\"c\"]}");
    }
}

#[tokio::test(start_paused = true)]
async fn pushes_and_mounts_land_in_the_project_and_are_answered_under_the_clients_name() {
    for (path, ending, project) in PLACES {
        let (hub, proxy) = place(path, ending).await;
        let (image, upstream) = (Image::random(1, &[1000]), format!("{project}o/app"));
        let layer = &image.layers[0];
        hub.put_blob(&format!("{project}o/base"), layer);

        mount(&proxy, "o/app", layer, "o%2Fbase").await;
        upload(&proxy, "o/app", &image.config).await;
        put(&proxy, "/v2/o/app/manifests/1", &image.manifest).await;

        assert_eq!(hub.tagged(&upstream, "1"), Some(image.manifest.digest().to_string()));
        assert!(hub.blob(&upstream, &layer.digest).is_some(), "{ending}");
        proxy.pull("o/app", "1", &image).await;
        let scopes: Vec<_> = hub.gets("/token").iter().flat_map(|it| it.query("scope")).collect();
        let is_of_project = |it: &String| it.starts_with(&format!("repository:{project}o/"));
        assert!(scopes.iter().all(is_of_project), "{scopes:?}");
    }
}

async fn mount(proxy: &Proxy, repository: &str, blob: &Blob, from: &str) {
    let path = format!("/v2/{repository}/blobs/uploads/?mount={}&from={from}", blob.digest);
    let reply = proxy.call(Method::POST, &path).await;
    reply.assert_status(201);
    assert_eq!(reply.header("location"), Some(&*blob.path(repository)));
}

async fn upload(proxy: &Proxy, repository: &str, blob: &Blob) {
    let begun = proxy.call(Method::POST, &format!("/v2/{repository}/blobs/uploads/")).await;
    begun.assert_status(202);
    let location = begun.header("location").unwrap().to_owned();
    assert!(location.starts_with(&format!("/v2/{repository}/blobs/uploads/")), "{location}");
    let path = format!("{location}?digest={}", blob.digest);
    let ended = proxy.client.send(Method::PUT, &path, &[], blob.bytes.clone()).await;
    ended.assert_status(201);
    assert_eq!(ended.header("location"), Some(&*blob.path(repository)));
}

async fn put(proxy: &Proxy, path: &str, manifest: &Manifest) {
    let headers = [("content-type", manifest.media_type.as_str())];
    let body: Bytes = manifest.blob.bytes.clone();
    proxy.client.send(Method::PUT, path, &headers, body).await.assert_status(201);
}

/// A company's cache in front of the registry itself has other names than it.
#[tokio::test(start_paused = true)]
async fn a_project_as_mirror_is_asked_under_its_own_names_and_the_registry_under_its_own() {
    let (harbor, hub) = (ScriptedRegistry::new(), ScriptedRegistry::new());
    let image = Image::random(1, &[1000, 2000]);
    hub.put_image("library/app", "1", &image);
    harbor.put_blob("hub-proxy/library/app", &image.layers[0]);
    let mut setup = Setup::new();
    let options = setup.registry("docker.io", &hub);
    let url = "http://harbor.corp/v2/hub-proxy".parse().unwrap();
    options.mirrors.push(UpstreamOptions::for_test(url));
    setup.network.put("harbor.corp", 80, harbor.clone());
    let proxy = setup.start().await;

    proxy.pull("library/app", "1", &image).await;

    assert_eq!(harbor.body_bytes(image.layers[0].digest.as_str()), 1000);
    assert!(hub.gets(image.layers[0].digest.as_str()).is_empty(), "the mirror has it");
    assert!(hub.asked().iter().all(|asked| !asked.target.contains("hub-proxy")));
    assert!(harbor.asked().iter().all(|asked| asked.target.starts_with("/v2/hub-proxy/")));
}

/// A changed path is another upstream, for new requests.
#[tokio::test(start_paused = true)]
async fn a_reload_takes_up_another_path_and_another_project() {
    let (hub, mut proxy) = place("", "/v2/old").await;
    let image = Image::random(1, &[1000]);
    for (number, ending) in ["/v2/old", "/v2/new", "/v2/a/b"].into_iter().enumerate() {
        let project = ending.strip_prefix("/v2/").unwrap();
        let tag = format!("t{number}");
        hub.put_image(&format!("{project}/o/app"), &tag, &image);
        proxy.reload(|settings| {
            let url = format!("http://registry.corp{ending}").parse().unwrap();
            settings.registries[0].upstream.url = url;
        });
        proxy.get(&format!("/v2/o/app/manifests/{tag}")).await.assert_status(200);
    }
}
