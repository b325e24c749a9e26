//! The upstreams: Debian's `docker-registry`, over the content that `image` keeps, and olareg,
//! which has referrers and takes digests by sha512.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::certificates::Certificates;
use super::curl::Curl;
use super::process::Process;
use super::token_server::TokenServer;
use super::traffic::Request;
use super::work::Work;
use super::{tools, wait};

/// The clients that may read from it.
pub(crate) enum Guard<'a> {
    /// Anybody.
    Open,
    /// The users in the file; over plain HTTP.
    Htpasswd { file: &'a Path },
    /// The users in the file; over TLS.
    TlsHtpasswd { file: &'a Path, certificates: &'a Certificates },
    /// Clients with a token of the token server; over TLS.
    Tokens { server: &'a TokenServer, certificates: &'a Certificates },
}

/// A registry on a port of its own, which it keeps from one start to the next.
pub(crate) struct Registry {
    pub(crate) port: u16,
    scheme: &'static str,
    /// `docker-registry`, or `olareg`.
    program: &'static str,
    arguments: Vec<OsString>,
    log: PathBuf,
    process: Option<Process>,
    /// How many of the logged requests belong to the past.
    forgotten: usize,
}

impl Registry {
    /// Serves what `image` keeps, read only.
    pub(crate) fn start(work: &Work, guard: &Guard<'_>) -> Self {
        let storage = super::image::storage();
        Self::over(&storage, "maintenance: {readonly: {enabled: true}}", work, guard)
    }

    /// Serves `storage`, and takes pushes.
    pub(crate) fn writable(storage: &Path, work: &Work) -> Self {
        Self::guarded(storage, work, &Guard::Open)
    }

    /// The same for who may, and takes deletions, too.
    pub(crate) fn guarded(storage: &Path, work: &Work, guard: &Guard<'_>) -> Self {
        let maintenance = "maintenance: {uploadpurging: {enabled: false}}, delete: {enabled: true}";
        Self::over(storage, maintenance, work, guard)
    }

    fn over(storage: &Path, maintenance: &str, work: &Work, guard: &Guard<'_>) -> Self {
        let port = wait::free_port();
        let (scheme, tls) = match guard {
            Guard::Open | Guard::Htpasswd { .. } => ("http", String::new()),
            Guard::TlsHtpasswd { certificates, .. } | Guard::Tokens { certificates, .. } => {
                ("https", certificates.as_yaml())
            }
        };
        let auth = match guard {
            Guard::Open => String::new(),
            Guard::Htpasswd { file } | Guard::TlsHtpasswd { file, .. } => {
                format!("auth: {{htpasswd: {{realm: e2e, path: {}}}}}\n", file.display())
            }
            Guard::Tokens { server, .. } => server.as_yaml(),
        };
        let config = format!(
            "version: 0.1\n\
             log: {{level: info}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}, {maintenance}}}\n\
             http: {{addr: \"127.0.0.1:{port}\"{tls}}}\n\
             {auth}",
            storage.display(),
        );

        let config = work.file(&format!("registry-{port}.yml"), &config);
        let arguments = vec!["serve".into(), config.into()];
        Self::run(work, port, scheme, "docker-registry", arguments)
    }

    /// One that is empty, takes pushes and deletions, and knows version 1.1 of the OCI's
    /// specification.
    pub(crate) fn olareg(work: &Work) -> Self {
        let port = wait::free_port();
        let storage = work.dir(&format!("olareg-{port}"));
        // Its access log is on the level of traces.
        let arguments = ["serve", "--verbosity=trace", "--api-delete", "--api-blob-delete"];
        let mut arguments: Vec<OsString> = arguments.into_iter().map(OsString::from).collect();
        arguments.extend(["--addr=127.0.0.1".into(), "--port".into()]);
        arguments.extend([port.to_string().into(), "--dir".into(), storage.into()]);
        Self::run(work, port, "http", "olareg", arguments)
    }

    fn run(
        work: &Work,
        port: u16,
        scheme: &'static str,
        program: &'static str,
        arguments: Vec<OsString>,
    ) -> Self {
        let log = work.log(&format!("registry-{port}.log"));
        let process = None;
        let mut registry = Self { port, scheme, program, arguments, log, process, forgotten: 0 };
        registry.start_again();
        registry
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.port)
    }

    /// Ends it; connections to its port are refused from now on.
    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.stop();
        }
    }

    pub(crate) fn start_again(&mut self) {
        let mut command = tools::command(self.program);
        command.args(&self.arguments);
        let mut process = Process::spawn(self.program, &command, &self.log);
        let port = self.port;
        process.wait_until_ready(|| wait::answers(port));
        self.process = Some(process);
    }

    /// The requests since the last `forget` that it answered to the end.
    ///
    /// A request is logged after its last byte is out, so it asks one of its own and waits for
    /// that line first.
    pub(crate) fn requests(&self) -> Vec<Request> {
        if self.process.is_some() {
            let mark = format!("mark={}", fastrand::u64(..));
            Curl::get(&format!("{}/v2/?{mark}", self.url())).arg("-k").send();
            wait::until("the registry logs a request", wait::DAEMON, || {
                self.access_log().contains(&mark).then_some(())
            });
        }
        let new = self.logged().into_iter().skip(self.forgotten);
        new.filter(|request| !request.path.contains("?mark=")).collect()
    }

    /// Lets the requests so far be the past.
    pub(crate) fn forget(&mut self) {
        self.requests();
        self.forgotten = self.logged().len();
    }

    /// All that it has said, with who asked for what.
    pub(crate) fn raw_log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn logged(&self) -> Vec<Request> {
        self.access_log().lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// On its stdout, or on stderr: what else is there does not look like requests.
    fn access_log(&self) -> String {
        let files = [self.log.with_extension("out"), self.log.clone()];
        files.iter().map(|file| fs::read_to_string(file).unwrap_or_default()).collect()
    }
}

/// The programs that a test needs for `start`.
pub(crate) const DISTRIBUTION: &[&str] = &["docker-registry", "curl", "setpriv"];

/// The programs that a test needs for `olareg`.
pub(crate) const OLAREG: &[&str] = &["olareg", "curl", "setpriv"];
