//! `/stats.json` of a running server is what `/stats.schema.json` says, and nothing else.

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::Value;

use crate::support::instance::{client_of, free_address};
use crate::support::{Blob, Client, Fault, Gate, Image, Instance, ScriptedRegistry, When};

const REPOSITORY: &str = "library/app";
const LEN: usize = 4 << 20;

/// A schema, compiled.
struct StatsSchema {
    schemas: Schemas,
    index: SchemaIndex,
}

impl StatsSchema {
    async fn of(page: &Client) -> Self {
        let url = "http://larder.test/stats.schema.json";
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.enable_format_assertions();
        compiler.add_resource(url, json(page, "/stats.schema.json").await).unwrap();
        let index = compiler.compile(url, &mut schemas).unwrap();
        Self { schemas, index }
    }

    /// Why a value is not as the schema says.
    fn fault(&self, value: &Value) -> Option<String> {
        self.schemas.validate(value, self.index).err().map(|error| format!("{error:#}\n{value:#}"))
    }

    /// An answer, which has to be as the schema says.
    async fn stats(&self, page: &Client) -> Value {
        let stats = json(page, "/stats.json").await;
        assert_eq!(self.fault(&stats), None);
        stats
    }
}

async fn json(page: &Client, path: &str) -> Value {
    let reply = page.get(path).await;
    reply.assert_status(200);
    serde_json::from_slice(&reply.body).unwrap()
}

#[tokio::test]
async fn answers_of_a_server_are_what_the_schema_says() {
    let hub = ScriptedRegistry::new();
    hub.put_image(REPOSITORY, "latest", &Image::random(1, &[50_000]));
    let large = Blob::random(2, LEN);
    hub.put_blob(REPOSITORY, &large);
    let gate = Gate::new();
    hub.breaks(When::asked(&large.digest), Fault::HoldAt(LEN / 2, gate.clone()));
    hub.breaks(When::asked("/manifests/"), Fault::Header("ratelimit-limit", "100;w=21600".into()));
    hub.breaks(
        When::asked("/manifests/"),
        Fault::Header("ratelimit-remaining", "76;w=21600".into()),
    );
    let (address, page) = (free_address(), free_address());
    let config = format!(
        "listen = ['{address}']\nadmin_listen = ''\ndashboard.listen = '{page}'\n\
         [registry.'docker.io']\nupstream = 'http://{}'\ndefault = true\n\
         [registry.'none.test']\nupstream = 'http://127.0.0.1:1'\n\
         [registry.'corp.test']\nupstream = 'http://127.0.0.1:1'\nidentity = 'client'\n",
        hub.listen().await
    );
    let mut larder = Instance::start(&[], &config).await;
    let (client, page) = (client_of(address), client_of(page));
    let schema = StatsSchema::of(&page).await;

    let before = schema.stats(&page).await;
    assert_eq!(before["never_asked"].as_array().unwrap().len(), 3);

    client.get(&format!("/v2/{REPOSITORY}/manifests/latest")).await.assert_status(200);
    client.get(&format!("/v2/{REPOSITORY}/manifests/latest")).await.assert_status(200);
    client.get("/v2/none.test/a/manifests/b").await.assert_status(502);
    client.get("/none").await.assert_status(404);
    larder.until_logged("larder::request", 4).await;
    let pull = client.raw().get("1.1", &large.path(REPOSITORY), &[]).await.unwrap();
    gate.reached().await;
    // The figures of a second are kept.
    let mut stats = schema.stats(&page).await;
    while stats["fills"] == before["fills"] {
        tokio::task::yield_now().await;
        stats = schema.stats(&page).await;
    }
    let fill = &stats["fills"][0];
    assert_eq!((&fill["total"], &fill["digest"]), (&LEN.into(), &large.digest.to_string().into()));
    assert_eq!(stats["pulls_left"]["remaining"], 76, "{stats:#}");
    gate.open();
    pull.finish().await.assert_is(&large);
    schema.stats(&page).await;

    // A schema that takes anything would find nothing.
    for (pointer, wrong) in [
        ("/version", Value::from(1)),
        ("/started", "yesterday".into()),
        ("/disk/used", (-1).into()),
        ("/half_hours/0/hit_ratio", 2.into()),
        ("/recent/0/kind", "other".into()),
        ("/upstreams/0", Value::Null),
        ("/fills/0/extra", Value::Null),
    ] {
        let mut changed = stats.clone();
        match changed.pointer_mut(pointer) {
            Some(value) => *value = wrong,
            None => changed["fills"][0]["extra"] = wrong,
        }
        assert!(schema.fault(&changed).is_some(), "{pointer}");
    }
    let mut missing = stats.clone();
    missing["disk"].as_object_mut().unwrap().remove("free");
    assert!(schema.fault(&missing).is_some());
}
