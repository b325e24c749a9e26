//! A browser without a window, moved by its driver (W3C `WebDriver`, with commands of Chromium).

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::curl::Curl;
use super::process::Process;
use super::tools::command;
use super::wait;
use super::work::Work;

/// Debian has them in the packages `chromium` and `chromium-driver`.
pub(crate) const CHROMIUM: &[&str] = &["chromium", "chromedriver"];

/// A window of Chromium.
pub(crate) struct Browser {
    session: String,
    request: PathBuf,
    answer: PathBuf,
    _driver: Process,
}

impl Browser {
    /// Opens it. All that its pages ask for and say is noted.
    pub(crate) fn open(work: &Work) -> Self {
        let port = wait::free_port();
        let mut driver = command("chromedriver");
        driver.arg(format!("--port={port}")).env("HOME", work.new_dir("home"));
        let mut driver = Process::spawn("chromedriver", &driver, &work.log("chromedriver.log"));
        let url = format!("http://127.0.0.1:{port}");
        let status = format!("{url}/status");
        driver.wait_until_ready(|| Curl::get(&status).send().status == 200);
        let (request, answer) = (work.file("request.json", ""), work.log("answer.json"));
        let mut browser = Self { session: url, request, answer, _driver: driver };
        let capabilities = json!({
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
            "goog:chromeOptions": { "args": FLAGS }
        });
        let wanted = json!({ "capabilities": { "alwaysMatch": capabilities } });
        let session = browser.post("session", &wanted);
        let id = session["sessionId"].as_str().expect("a session has an id");
        browser.session = format!("{}/session/{id}", browser.session);
        browser
    }

    pub(crate) fn go_to(&self, url: &str) {
        self.post("url", &json!({ "url": url }));
    }

    /// The value of an expression in the page.
    pub(crate) fn value(&self, expression: &str) -> Value {
        self.post("execute/sync", &json!({ "script": format!("return {expression}"), "args": [] }))
    }

    /// The value that a script hands to `done`.
    pub(crate) fn await_value(&self, script: &str) -> Value {
        let script = format!("const done = arguments[arguments.length - 1];\n{script}");
        self.post("execute/async", &json!({ "script": script, "args": [] }))
    }

    /// Waits until an expression is true.
    pub(crate) fn until(&self, expression: &str) {
        wait::until(expression, Duration::from_secs(30), || {
            (self.value(expression) == true).then_some(())
        });
    }

    /// A command of Chromium's own protocol.
    pub(crate) fn command(&self, name: &str, parameters: &Value) {
        self.post("goog/cdp/execute", &json!({ "cmd": name, "params": parameters }));
    }

    /// The lines of the console since the last call.
    pub(crate) fn console(&self) -> Vec<String> {
        let log = self.post("se/log", &json!({ "type": "browser" }));
        log.as_array().into_iter().flatten().map(Value::to_string).collect()
    }

    /// The URLs that pages have asked for since the last call.
    pub(crate) fn asked(&self) -> Vec<String> {
        let log = self.post("se/log", &json!({ "type": "performance" }));
        let texts = log.as_array().into_iter().flatten().filter_map(|it| it["message"].as_str());
        let events = texts.filter_map(|text| serde_json::from_str::<Value>(text).ok());
        let sent = events.filter(|it| it["message"]["method"] == "Network.requestWillBeSent");
        let url = |it: Value| Some(it["message"]["params"]["request"]["url"].as_str()?.to_owned());
        sent.filter_map(url).collect()
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        std::fs::write(&self.request, body.to_string()).expect("the test's directory");
        let reply = Curl::get(&format!("{}/{path}", self.session))
            .arg("-H")
            .arg("Content-Type: application/json")
            .arg("--data-binary")
            .arg(format!("@{}", self.request.display()))
            .to(&self.answer)
            .send();
        let text = std::fs::read_to_string(&self.answer).expect("curl wrote it");
        assert_eq!(reply.status, 200, "{path}: {} {text}", reply.trouble);
        let mut answer: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
        answer["value"].take()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its processes would outlive the driver.
        Curl::get(&self.session).arg("-X").arg("DELETE").send();
    }
}

/// Root has no sandbox, and a small machine has a small /dev/shm. Chromium itself asks for nothing.
const FLAGS: &[&str] = &[
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--window-size=1200,900",
];
