//! The library of AWS credentials over Larder's own client, files, variables and programs.
//!
//! The library's errors may quote an answer or a program's output. So the faults are noted here, in
//! words of Larder's, and its errors are never shown.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, Uri};
use parking_lot::Mutex;
use reqsign_core::{
    CommandExecute, CommandOutput, Context, Env, Error, FileRead, HttpSend, Result,
};
use url::Url;

use super::super::cloud_client::CloudClient;
use super::super::environment::CredentialEnvironment;
use super::super::{command, file};

/// The longest file, in bytes: the configuration of many profiles.
const FILE_LEN_MAX: u64 = 1024 * 1024;

/// The longest name of an error that is shown, in bytes.
const CODE_LEN_MAX: usize = 64;

/// All that the library may reach in one walk of its providers, and the fault of the last call.
#[derive(Clone)]
pub(super) struct AwsContext {
    client: Arc<CloudClient>,
    environment: CredentialEnvironment,
    /// The URL that takes the place of the Security Token Service's.
    sts: Option<Url>,
    fault: Arc<Mutex<Option<String>>>,
}

impl AwsContext {
    pub(super) fn new(
        client: Arc<CloudClient>,
        environment: CredentialEnvironment,
        sts: Option<Url>,
    ) -> Self {
        Self { client, environment, sts, fault: Arc::default() }
    }

    /// The context that the library takes.
    pub(super) fn library(&self) -> Context {
        Context::new()
            .with_env(self.clone())
            .with_file_read(self.clone())
            .with_http_send(self.clone())
            .with_command_execute(self.clone())
    }

    /// The fault of the last call that failed, which is then forgotten.
    pub(super) fn take_fault(&self) -> Option<String> {
        self.fault.lock().take()
    }

    fn note(&self, fault: impl fmt::Display) -> Error {
        *self.fault.lock() = Some(fault.to_string());
        Error::unexpected("")
    }

    /// Sends the calls for the Security Token Service to where it is. Their signed parts stay:
    /// an endpoint in a private network answers to the service's own name.
    fn redirected(&self, uri: &Uri) -> Option<Uri> {
        let sts = self.sts.as_ref().filter(|_| uri.host().is_some_and(is_sts))?;
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        format!("{}/{query}", sts.as_str().trim_end_matches('/')).parse().ok()
    }
}

fn is_sts(host: &str) -> bool {
    host.starts_with("sts.")
}

impl HttpSend for AwsContext {
    async fn http_send(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>> {
        if let Some(uri) = self.redirected(request.uri()) {
            *request.uri_mut() = uri;
        }
        let host = request.uri().host().unwrap_or_default().to_owned();
        let response = self.client.send(request).await.map_err(|error| self.note(error))?;
        if !response.status().is_success() {
            self.note(refusal(&host, &response));
        }
        Ok(response)
    }
}

/// The words for an answer that is no success: its status, and the name of its error.
pub(super) fn refusal(host: &str, response: &Response<Bytes>) -> String {
    let status = response.status().as_u16();
    match error_code(response.body()) {
        Some(code) => format!("{host} answered {status} ({code})"),
        None => format!("{host} answered {status}"),
    }
}

/// The name of the error in an answer: `<Code>…</Code>` in XML, `__type` or `code` in JSON.
fn error_code(body: &[u8]) -> Option<String> {
    let json = || {
        let answer: serde_json::Value = serde_json::from_slice(body).ok()?;
        let code = ["__type", "code", "Code"].iter().find_map(|name| answer.get(name)?.as_str())?;
        // AWS JSON 1.1 puts a namespace before it.
        Some(code.rsplit('#').next().unwrap_or_default().to_owned())
    };
    let xml = || {
        let text = std::str::from_utf8(body).ok()?;
        Some(text.split_once("<Code>")?.1.split_once("</Code>")?.0.to_owned())
    };
    let is_name = |code: &String| {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.';
        (1..=CODE_LEN_MAX).contains(&code.len()) && code.bytes().all(is_word)
    };
    json().or_else(xml).filter(is_name)
}

impl FileRead for AwsContext {
    async fn file_read(&self, path: &str) -> Result<Vec<u8>> {
        let read = file::read(Path::new(path), FILE_LEN_MAX).await;
        read.map_err(|error| self.note(format!("reading {path}: {error}")))
    }
}

impl Env for AwsContext {
    fn var(&self, key: &str) -> Option<String> {
        self.environment.text(key).map(str::to_owned)
    }

    fn vars(&self) -> HashMap<String, String> {
        self.environment.all()
    }

    fn home_dir(&self) -> Option<PathBuf> {
        self.environment.path("HOME")
    }
}

impl CommandExecute for AwsContext {
    async fn command_execute<'a>(
        &'a self,
        program: &'a str,
        arguments: &'a [&'a str],
    ) -> Result<CommandOutput> {
        let arguments: Vec<_> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let output = command::run(OsStr::new(program), &arguments, b"").await;
        let output = output.map_err(|error| self.note(error))?;
        if !output.is_success {
            return Err(self.note(format!("`{program}` failed")));
        }
        Ok(CommandOutput { status: 0, stdout: output.stdout, stderr: Vec::new() })
    }
}

impl fmt::Debug for AwsContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsContext").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer may repeat what it was asked with; only what can be a name is shown.
    #[test]
    fn of_an_answer_that_is_no_success_the_name_of_its_error_is_shown() {
        for (body, want) in [
            (
                r#"{"__type":"com.amazon#AccessDeniedException","message":"x"}"#,
                " (AccessDeniedException)",
            ),
            (r#"{"code":"NotFound"}"#, " (NotFound)"),
            (
                "<ErrorResponse><Error><Code>ExpiredToken</Code></Error></ErrorResponse>",
                " (ExpiredToken)",
            ),
            (r#"{"__type":"a secret"}"#, ""),
            ("<Code>a/b</Code>", ""),
            ("<html>", ""),
        ] {
            let response = Response::builder().status(403).body(Bytes::from(body)).unwrap();
            assert_eq!(refusal("a.test", &response), format!("a.test answered 403{want}"));
        }
    }
}
