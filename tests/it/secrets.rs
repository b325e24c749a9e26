//! Every secret that Larder is given or comes to see is a canary here, and none of them may be in
//! anything that it says: the log at its most talkative, health, metrics, answers, the report of a
//! configuration.

use std::net::SocketAddr;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;

use crate::support::instance::{client_of, free_address};
use crate::support::registry::{User, basic};
use crate::support::tls::TestCa;
use crate::support::{Auth, Blob, Fault, Image, Instance, Reply, ScriptedRegistry, When};
use crate::traces::Collector;

const INLINE: &str = "canary-in-the-configuration";
const IN_FILE: &str = "canary-in-a-file";
const IN_VARIABLE: &str = "canary-in-a-variable";
const OF_EGRESS: &str = "canary-of-an-egress-proxy";
const OF_SESSIONS: &str = "canary-of-the-key-of-sessions-which-is-long-enough";
const OF_COLLECTOR: &str = "canary-for-the-collector";
const LOCAL: &str = "canary-of-a-user-of-larder";
const ANN: &str = "canary-of-ann";
const WRONG: &str = "canary-that-is-wrong";
const IN_TOKEN: &str = "canary-of-token";
const IN_QUERY: &str = "canary-in-a-query";
const IN_COOKIE: &str = "canary-in-a-cookie";
/// The secret of the scripted registry, in signatures of its redirects and in cookies.
const SIGNATURE: &str = "s3cr3t";
/// The id of an upload at the scripted registry.
const UPLOAD: &str = "upload-1";

const SECRETS: [&str; 14] = [
    INLINE,
    IN_FILE,
    IN_VARIABLE,
    OF_EGRESS,
    OF_SESSIONS,
    OF_COLLECTOR,
    LOCAL,
    ANN,
    WRONG,
    IN_TOKEN,
    IN_QUERY,
    IN_COOKIE,
    SIGNATURE,
    UPLOAD,
];
const USERS: [&str; 5] = ["robot", "egress", "local", "ann", "eve"];

/// Registries that each want another secret of Larder's, or a client's.
struct World {
    /// A password in the configuration; takes pushes.
    inline: ScriptedRegistry,
    /// A password in a file; its blobs are at another host, which may be called.
    file: ScriptedRegistry,
    /// A password in a variable; its blobs are at a host that may not be called.
    variable: ScriptedRegistry,
    /// Clients' own passwords, and tokens.
    corp: ScriptedRegistry,
    image: Image,
    /// A line of it.
    private_key: String,
    larder: Instance,
    address: SocketAddr,
    admin: SocketAddr,
    /// All that clients were told.
    told: String,
    /// How often they have asked.
    asked: usize,
    collector: Collector,
}

impl World {
    async fn start() -> Self {
        let image = Image::random(1, &[50_000]);
        let hubs = [(); 4].map(|()| ScriptedRegistry::new());
        for hub in &hubs {
            hub.put_image("team/app", "latest", &image);
            hub.knows_lists();
        }
        let [inline, file, variable, corp] = hubs;
        inline.requires(Auth::basic("robot", INLINE));
        file.requires(Auth::basic("robot", IN_FILE));
        variable.requires(Auth::basic("robot", IN_VARIABLE));
        let storage = ScriptedRegistry::new();
        storage.put_image("team/app", "latest", &image);
        let storage = storage.listen().await;
        file.redirect_blobs_to(&format!("http://{storage}"));
        variable.redirect_blobs_to(&format!("http://{storage}"));
        let of_corp = corp.listen().await;
        let ann = User::new("ann", ANN, &["team/*:pull,push"]);
        corp.requires(Auth::users(&format!("http://{of_corp}/token"), &[ann]));

        let (address, admin) = (free_address(), free_address());
        let config = config(
            (address, admin),
            (inline.listen().await, file.listen().await, variable.listen().await),
            (of_corp, storage),
        );
        let collector = Collector::default();
        let config = format!(
            "{config}[traces]\nendpoint = 'http://{}'\nheaders = 'x-token: {OF_COLLECTOR}'\n",
            collector.listen().await
        );
        let (certificate, key) = TestCa::new().issue("larder.test");
        let private_key = key.lines().nth(1).unwrap().to_owned();
        let hash = bcrypt::hash_with_result(LOCAL, 4).unwrap();
        let files = [
            ("users", &*format!("local:{hash}\n")),
            ("password", IN_FILE),
            ("session", OF_SESSIONS),
            ("crt", &certificate),
            ("key", &key),
        ];
        let proxy = format!("http://egress:{OF_EGRESS}@{}", free_address());
        let variables = [
            ("LARDER_LOG", "trace"),
            ("PASSWORD", IN_VARIABLE),
            ("HTTP_PROXY", &proxy),
            ("NO_PROXY", "127.0.0.1"),
        ];
        let larder = Instance::start_with(&files, &config, &variables).await;
        let (told, asked) = (String::new(), 0);
        Self {
            inline,
            file,
            variable,
            corp,
            image,
            private_key,
            larder,
            address,
            admin,
            told,
            asked,
            collector,
        }
    }

    async fn send(&mut self, method: Method, path: &str, headers: &[(&str, &str)]) -> Reply {
        self.send_body(method, path, headers, Vec::new()).await
    }

    async fn send_body(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Reply {
        let client = client_of(self.address);
        let reply = client.send(method, path, headers, body.into()).await;
        self.asked += 1;
        self.told.extend([&*format!("{:?}\n", reply.headers), &reply.text(), "\n"]);
        reply
    }

    async fn get(&mut self, path: &str, user: (&str, &str)) -> Reply {
        let header = basic(user.0, user.1);
        self.send(Method::GET, path, &[("authorization", &header)]).await
    }

    /// The output of `larder check` about the configuration.
    fn report(&self) -> String {
        let check = Command::new(env!("CARGO_BIN_EXE_larder"))
            .args(["check", "--config"])
            .arg(self.larder.path("config.toml"))
            .env_clear()
            .env("HOME", "/home/test")
            .env("PASSWORD", IN_VARIABLE)
            .env("HTTP_PROXY", format!("http://egress:{OF_EGRESS}@127.0.0.1:9"))
            .output()
            .unwrap();
        let said = String::from_utf8([check.stdout, check.stderr].concat()).unwrap();
        assert_eq!(check.status.code(), Some(0), "{said}");
        said
    }

    /// Fails if a secret is in anything that was said. `more` are further ones, which clients may
    /// see.
    async fn assert_silent(&self, more: &[String]) {
        let mut said = vec![("the report", self.report()), ("the log", self.larder.log())];
        assert!(said[1].1.contains("TRACE"), "the log is at its most talkative");
        let access_log = std::fs::read_to_string(self.larder.path("access.log")).unwrap();
        assert!(access_log.contains("\"registry\":\"corp.test\""), "{access_log}");
        said.push(("the access log", access_log));
        for path in ["/metrics", "/readyz", "/healthz"] {
            said.push((path, client_of(self.admin).get(path).await.text()));
        }
        self.larder.terminate();
        self.collector.until(self.asked).await;
        let traces = self.collector.bytes();
        said.push(("the traces", String::from_utf8_lossy(&traces).into_owned()));
        for (_, text) in &said {
            for secret in more {
                assert!(!text.contains(secret.as_str()), "{secret} in {text}");
            }
        }
        said.push(("an answer", self.told.clone()));
        for (what, text) in &said {
            let pairs = SECRETS.iter().flat_map(|secret| {
                USERS.iter().map(move |user| STANDARD.encode(format!("{user}:{secret}")))
            });
            let plain = SECRETS.iter().map(|secret| (*secret).to_owned());
            let of_files = [self.private_key.clone(), "$2b$".to_owned()];
            for form in pairs.chain(plain).chain(of_files) {
                let line = text.lines().find(|line| line.contains(&form));
                assert_eq!(line, None, "{form} in {what}");
            }
        }
    }
}

fn config(
    (address, admin): (SocketAddr, SocketAddr),
    (inline, file, variable): (SocketAddr, SocketAddr, SocketAddr),
    (corp, storage): (SocketAddr, SocketAddr),
) -> String {
    format!(
        "listen = ['{address}']\nadmin_listen = '{admin}'\ndashboard.listen = ''\n\
         access_log.file = 'access.log'\n\
         [access]\nanonymous = 'none'\nchallenge = 'basic'\nhtpasswd = 'users'\n\
         [cache]\nsession_key_file = 'session'\n\
         [registry.'inline.test']\nupstream = 'http://{inline}'\npush = true\n\
         auth = {{ type = 'basic', username = 'robot', password = '{INLINE}' }}\n\
         [registry.'file.test']\nupstream = 'http://{file}'\nredirect_hosts = ['{storage}']\n\
         auth = {{ type = 'basic', username = 'robot', password_file = 'password' }}\n\
         [registry.'variable.test']\nupstream = 'http://{variable}'\n\
         auth = {{ type = 'basic', username = 'robot', password_env = 'PASSWORD' }}\n\
         [registry.'proxied.test']\n\
         upstream = {{ url = 'http://proxied.test' }}\n\
         auth = {{ type = 'basic', username = 'robot', password = '{INLINE}' }}\n\
         [registry.'tls.test']\n\
         upstream = {{ url = 'https://127.0.0.1:9', client_cert = 'crt', client_key = 'key' }}\n\
         [registry.'corp.test']\nupstream = 'http://{corp}'\npush = true\nidentity = 'client'\n"
    )
}

/// Pulls, misses, wrong passwords and things that are no credentials.
#[tokio::test]
async fn no_pull_and_no_failed_login_tells_a_secret() {
    let mut world = World::start().await;
    let layer = world.image.layers[0].digest.clone();
    let things = ["manifests/latest", "manifests/none", "tags/list", &format!("blobs/{layer}")];
    let local = ("local", LOCAL);
    for registry in ["inline", "file", "variable", "proxied", "tls"] {
        for thing in things {
            let path = format!("/v2/{registry}.test/team/app/{thing}?token={IN_QUERY}");
            world.get(&path, local).await;
            world.get(&path, ("local", WRONG)).await.assert_status(401);
        }
    }
    for thing in things {
        let path = format!("/v2/corp.test/team/app/{thing}");
        for user in [("ann", ANN), ("ann", WRONG), ("eve", WRONG), local] {
            world.get(&path, user).await;
        }
    }
    world.get("/v2/corp.test/team/app/manifests/latest", ("ann", ANN)).await.assert_status(200);
    world.get("/v2/file.test/team/app/manifests/latest", local).await.assert_status(200);
    let bearer = format!("Bearer {WRONG}");
    let garbage = format!("Basic !{WRONG}");
    let unknown = format!("Digest username=\"{WRONG}\"");
    let (twice, cookie) = (basic("local", LOCAL), format!("session={IN_COOKIE}"));
    for authorization in [&bearer, &garbage, &unknown] {
        let headers = [("authorization", authorization.as_str()), ("cookie", &cookie)];
        world.send(Method::GET, "/v2/", &headers).await.assert_status(401);
    }
    let headers = [("authorization", twice.as_str()), ("authorization", &bearer)];
    world.send(Method::GET, "/v2/", &headers).await.assert_status(400);

    assert!(world.corp.askers().contains(&"ann".to_owned()), "{:?}", world.corp.askers());
    world.assert_silent(&[]).await;
}

/// Whatever upstreams, their token servers and their storage do wrong.
#[tokio::test]
async fn no_fault_of_an_upstream_tells_a_secret() {
    let mut world = World::start().await;
    let tokens = |text: &'static str| Fault::Status(200, Vec::new(), text);
    for fault in [
        tokens("{\"token\":\"canary-of-token\\n\"}"),
        tokens("{\"token\":\"canary-of-token"),
        tokens("{\"token\":1,\"x\":\"canary-of-token\"}"),
    ] {
        world.corp.heal();
        world.corp.breaks(When::asked("/token"), fault);
        for path in ["/v2/", "/v2/corp.test/team/app/manifests/latest"] {
            world.get(path, ("ann", ANN)).await;
        }
    }
    let faults = [
        Fault::status(500),
        Fault::CutHeaders,
        Fault::raw("HTTP/1.1 200 canary-of-token\r\nX: canary-of-token", b"canary-of-token"),
        Fault::Html200,
        Fault::Header("WWW-Authenticate", "Bearer realm=\"http://u:canary-in-a-query@x/\"".into()),
        Fault::RedirectTo("http://u:canary-in-a-query@10.0.0.1/?x=canary-in-a-query".into()),
        Fault::RedirectTo("http://127.0.0.1:9/canary-in-a-query?x=canary-in-a-query".into()),
        // Last, for who was refused is not asked about for a while.
        Fault::status(403),
        Fault::status(401),
    ];
    for (number, fault) in faults.into_iter().enumerate() {
        for hub in [&world.inline, &world.file, &world.variable, &world.corp] {
            hub.heal();
            hub.revoke_tokens();
            hub.breaks(When::asked("/"), fault.clone());
        }
        for registry in ["inline", "file", "variable"] {
            let path = format!("/v2/{registry}.test/team/app/manifests/v{number}");
            world.get(&path, ("local", LOCAL)).await;
        }
        for path in ["/v2/", &format!("/v2/corp.test/team/app/manifests/v{number}")] {
            world.get(path, ("ann", ANN)).await;
        }
    }
    for said in ["its answer is not JSON", "cannot be written in a header", "is not followed"] {
        assert!(world.told.contains(said), "{said:?} did not come about");
    }
    world.assert_silent(&[]).await;
}

/// The id of an upload is all that it takes to go on with it, here and at the upstream.
#[tokio::test]
async fn no_push_tells_a_secret() {
    let mut world = World::start().await;
    let blob = Blob::random(9, 1000);
    let mut sealed = Vec::new();
    for (registry, user) in [("inline", ("local", LOCAL)), ("corp", ("ann", ANN))] {
        let header = basic(user.0, user.1);
        let headers = [("authorization", header.as_str())];
        let uploads = format!("/v2/{registry}.test/team/app/blobs/uploads/");
        let begun = world.send(Method::POST, &uploads, &headers).await;
        begun.assert_status(202);
        let mut location = begun.header("location").unwrap().to_owned();
        for (method, body) in [(Method::PATCH, &blob.bytes[..]), (Method::GET, &[])] {
            let reply = world.send_body(method, &location, &headers, body.to_vec()).await;
            assert!(reply.status.is_success(), "{}", reply.status);
            sealed.push(location.rsplit('/').next().unwrap().to_owned());
            if let Some(next) = reply.header("location") {
                next.clone_into(&mut location);
            }
        }
        world.send(Method::GET, &format!("{location}x"), &headers).await.error(404);
        sealed.push(location.rsplit('/').next().unwrap().to_owned());
        let put = format!("{location}?digest={}", blob.digest);
        world.send(Method::PUT, &put, &headers).await.assert_status(201);
    }
    assert!(sealed.iter().all(|id| id.len() > 50), "{sealed:?}");
    // Clients are given them, and no log or error shows even half of one.
    let halves: Vec<String> = sealed.iter().map(|id| id[..id.len() / 2].to_owned()).collect();
    world.assert_silent(&halves).await;
}
