//! The page for operators in a real browser: it moves, keeps to itself, and is for all.

use serde_json::{Value, json};

use crate::support::curl::Curl;
use crate::support::image::Image;
use crate::support::larder::{Larder, Setup};
use crate::support::registry::{DISTRIBUTION, Guard, Registry};
use crate::support::tools::{find, requires};
use crate::support::wait;
use crate::support::webdriver::{Browser, CHROMIUM};
use crate::support::work::Work;

/// Rules of accessibility; `tests/run` fetches them.
const AXE: &[&str] = &["axe.min.js"];

const SAVED: &str = "document.querySelector('#numbers').innerText";

const HAS_REQUESTS: &str = "document.querySelectorAll('#recent tbody tr').length > 0";

/// A Larder with a page, before a registry with an image.
struct World {
    work: Work,
    larder: Larder,
    /// The page's.
    url: String,
    image: Image,
    _registry: Registry,
}

impl World {
    fn start(test: &str) -> Self {
        let image = Image::alpine();
        let work = Work::new(test);
        let registry = Registry::start(&work, &Guard::Open);
        let address = format!("127.0.0.1:{}", wait::free_port());
        let variables = [("LARDER_DASHBOARD_LISTEN", &*address)];
        let upstream = registry.url();
        let larder = Setup { variables: &variables, ..Setup::new(&work, &upstream) }.start();
        let url = format!("http://{address}/");
        Self { work, larder, url, image, _registry: registry }
    }

    fn pull(&self) {
        let path = format!("{}/manifests/{}", self.image.repository, self.image.tag);
        let reply = Curl::get(&self.larder.url(&path)).send();
        assert_eq!(reply.status, 200, "{}", reply.trouble);
    }
}

#[test]
fn the_page_moves_while_images_are_pulled_and_asks_no_other_host() {
    let test = requires!(DISTRIBUTION, CHROMIUM);
    let world = World::start(test);
    let browser = Browser::open(&world.work);
    browser.go_to(&world.url);
    browser.until("document.querySelector('#connection').textContent === 'live'");
    let before = browser.value(SAVED);
    assert_eq!(browser.value(HAS_REQUESTS), false);

    for _ in 0..3 {
        world.pull();
    }
    browser.until(HAS_REQUESTS);
    browser.until(&format!("{SAVED} !== {before}"));
    browser.until("document.querySelector('#clients').innerText.includes('curl/')");

    assert_eq!(browser.console(), Vec::<String>::new());
    let asked = browser.asked();
    assert!(asked.iter().any(|url| url.ends_with("/events")), "{asked:?}");
    for url in asked {
        assert!(url.starts_with(&world.url) || url.starts_with("data:"), "{url}");
    }
}

#[test]
fn the_page_without_scripts_tells_the_state() {
    let test = requires!(DISTRIBUTION, CHROMIUM);
    let world = World::start(test);
    world.pull();
    let browser = Browser::open(&world.work);
    browser.command("Emulation.setScriptExecutionDisabled", &json!({ "value": true }));
    browser.go_to(&world.url);
    let page = browser.value("document.body.innerText");
    let page = page.as_str().expect("the page has a text");
    assert!(page.contains("State: ready"), "{page}");
    assert!(page.contains(&world.image.repository), "{page}");
    let has_run = "document.documentElement.classList.contains('scripts')";
    assert_eq!(browser.value(has_run), false);
}

#[test]
fn the_page_can_be_used_by_all_in_light_dark_and_on_a_telephone() {
    let test = requires!(DISTRIBUTION, CHROMIUM, AXE);
    let world = World::start(test);
    world.pull();
    let axe = find("axe.min.js").expect("it is required");
    let axe = std::fs::read_to_string(axe).expect("readable");
    let browser = Browser::open(&world.work);
    for (theme, width) in [("light", 1200), ("dark", 1200), ("light", 360), ("dark", 360)] {
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": theme }] });
        browser.command("Emulation.setEmulatedMedia", &features);
        let screen =
            json!({ "width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500 });
        browser.command("Emulation.setDeviceMetricsOverride", &screen);
        browser.go_to(&world.url);
        browser.until(HAS_REQUESTS);
        let is_dark = browser.value("matchMedia('(prefers-color-scheme: dark)').matches");
        assert_eq!(is_dark, theme == "dark");
        let taken = browser.value("document.documentElement.scrollWidth");
        assert!(taken.as_u64() <= Some(width), "{taken} of {width}");

        let found = browser.await_value(&format!(
            "{axe}\naxe.run().then((it) => done([it.violations, it.passes.length]), done);"
        ));
        assert_eq!(found[0], Value::Array(Vec::new()), "{theme}, {width}: {found:#}");
        assert!(found[1].as_u64() > Some(10), "{found:#}");
    }
}
