//! `[traces]`: the collector of traces, and the variables of OpenTelemetry that stand in for keys.

use http::{HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use toml::de::DeValue;
use url::Url;

use super::diagnostics::{ValueFault, quoted};
use super::file::ConfigFile;
use super::reader::{FromText, FromToml, Located, TomlValue};
use super::resolver::Resolver;
use super::table::table;
use super::upstream_url;
use crate::http::check_ca;
use crate::traces::{self, CollectorHeader, TraceOptions};

table! {
    /// [Traces](docs/operations.md#traces) of requests, sent by OTLP over HTTP.
    ///
    /// For a key that is left out, the variable of OpenTelemetry counts, such as
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`. A change takes a restart.
    ///
    /// ```toml
    /// [traces]
    /// endpoint = "http://127.0.0.1:4318"
    /// sample_ratio = 0.1
    /// ```
    struct TracesTable in "[traces]" {
        /// URL of the collector; without it, there are no traces.
        ///
        /// `/v1/traces` is added, unless it is there. Collectors take OTLP over HTTP on port 4318;
        /// 4317 is for gRPC, which Larder does not speak.
        endpoint: Located<CollectorUrl> => "`OTEL_EXPORTER_OTLP_ENDPOINT`";
        /// Share of the traces that are recorded, from 0 to 1.
        ///
        /// A client that sends a `traceparent` has decided already: its trace is recorded if it
        /// says so, and else it is not.
        sample_ratio: Located<SampleRatio> => "`OTEL_TRACES_SAMPLER_ARG`, else `1`" | 1;
        /// Name of this service in traces.
        service_name: Located<String> => "`OTEL_SERVICE_NAME`, else `\"larder\"`" | "larder";
        /// Headers of requests to the collector, one in a line, as in
        /// `"authorization: Bearer …"`.
        headers: Located<SecretString> => "`OTEL_EXPORTER_OTLP_HEADERS`";
        /// File with such lines, instead of `headers`.
        headers_file: Located<String>;
        /// PEM file of certificates to trust for the collector beside the system's.
        ca: Located<String> => "`OTEL_EXPORTER_OTLP_CERTIFICATE`";
    }
}

/// The URL of a collector, which spans are posted to.
#[derive(Clone, Debug)]
pub(super) struct CollectorUrl(Url);

impl FromText for CollectorUrl {
    const TITLE: &'static str = "URL";

    fn from_text(text: &str) -> Result<Self, ValueFault> {
        let mut url = upstream_url::parse_http(text)?;
        if !url.path().ends_with(TRACES_PATH) {
            url.set_path(&format!("{}{TRACES_PATH}", url.path().trim_end_matches('/')));
        }
        Ok(Self(url))
    }
}

/// A share, from 0 to 1; a text in a variable.
#[derive(Clone, Copy, Debug)]
pub(super) struct SampleRatio(f64);

impl SampleRatio {
    fn parse(text: &str) -> Result<Self, ValueFault> {
        let ratio = text.trim().parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
        ratio.map(Self).ok_or_else(|| ValueFault::new("it must be from 0 to 1"))
    }
}

impl FromToml for SampleRatio {
    const EXPECTED: &'static str = "a number";

    fn read(value: &mut TomlValue<'_, '_>) -> Option<Self> {
        let ratio = match value.get() {
            DeValue::Float(number) => Self::parse(number.as_str()),
            DeValue::Integer(number) => Self::parse(number.as_str()),
            _ => Self::parse(value.expect::<Self, _>(DeValue::as_str)?),
        };
        value.accept(ratio)
    }

    fn schema() -> Value {
        json!({ "type": "number", "minimum": 0, "maximum": 1 })
    }
}

/// The meaning of the table; `None` if there are no traces.
pub(super) fn resolve(written: &TracesTable, resolver: &mut Resolver<'_>) -> Option<TraceOptions> {
    let url = match &written.endpoint {
        Some(endpoint) => {
            refuse_without_feature(endpoint, resolver);
            endpoint.value.0.clone()
        }
        None => endpoint_of_environment(resolver)?,
    };
    let (service_name, resource) = resource(written, resolver);
    let named = [("service.name", service_name), ("service.version", VERSION.to_owned())];
    let named = named.map(|(name, value)| (name.to_owned(), value));
    Some(TraceOptions {
        url,
        headers: headers(written, resolver),
        ca_pem: ca_pem(written, resolver),
        sample_ratio: sample_ratio(written, resolver),
        resource: named.into_iter().chain(resource).collect(),
    })
}

fn refuse_without_feature(endpoint: &Located<CollectorUrl>, resolver: &mut Resolver<'_>) {
    if !traces::IS_BUILT_IN {
        let fault = ValueFault::new("this Larder was built without the feature `otlp`");
        let hint = "leave the key out, or build with `--features otlp`, as releases are";
        resolver.report(&endpoint.at, fault.hint(hint));
    }
}

/// The endpoint that variables name, which programs of one environment share: what Larder cannot
/// do about it is warned of, and no reason not to start.
fn endpoint_of_environment(resolver: &mut Resolver<'_>) -> Option<Url> {
    let of_traces = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
    let (name, text) = first(&[of_traces, "OTEL_EXPORTER_OTLP_ENDPOINT"], resolver)?;
    let is = |name, word: &str| text_of(name, resolver).is_some_and(|it| it == word);
    if is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") {
        return None;
    }
    let protocols = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
    let protocol = first(&protocols, resolver).map(|(_, protocol)| protocol);
    let fault = if !traces::IS_BUILT_IN {
        Some("this Larder was built without the feature `otlp`")
    } else if protocol.is_some_and(|protocol| protocol == "grpc") {
        Some("Larder speaks OTLP over HTTP, and not over gRPC; set `endpoint` of `[traces]`")
    } else {
        None
    };
    if let Some(fault) = fault {
        resolver.warn_in_general(format!("{name} is set, but there are no traces: {fault}"));
        return None;
    }
    // The variable for traces alone is the whole URL.
    let parsed = if name == of_traces {
        upstream_url::parse_http(&text)
    } else {
        CollectorUrl::from_text(&text).map(|url| url.0)
    };
    parsed.map_err(|fault| resolver.report_variable(name, fault)).ok()
}

fn sample_ratio(written: &TracesTable, resolver: &mut Resolver<'_>) -> f64 {
    if let Some(ratio) = &written.sample_ratio {
        return ratio.value.0;
    }
    match text_of("OTEL_TRACES_SAMPLER", resolver).as_deref() {
        Some("always_off" | "parentbased_always_off") => 0.0,
        Some("traceidratio" | "parentbased_traceidratio") => {
            let name = "OTEL_TRACES_SAMPLER_ARG";
            let ratio = text_of(name, resolver).map(|text| SampleRatio::parse(&text));
            let ratio = ratio.transpose().map_err(|fault| resolver.report_variable(name, fault));
            ratio.ok().flatten().map_or(1.0, |ratio| ratio.0)
        }
        _ => 1.0,
    }
}

/// The name of the service, and the other attributes of the resource.
fn resource(written: &TracesTable, resolver: &mut Resolver<'_>) -> (String, Vec<(String, String)>) {
    let name = "OTEL_RESOURCE_ATTRIBUTES";
    let mut attributes = match text_of(name, resolver).map(|text| pairs(&text)) {
        Some(Ok(attributes)) => attributes,
        Some(Err(fault)) => {
            resolver.report_variable(name, fault);
            Vec::new()
        }
        None => Vec::new(),
    };
    let among = attributes.iter().position(|(name, _)| name == "service.name");
    let among = among.map(|at| attributes.remove(at).1);
    let written = written.service_name.as_ref().map(|name| name.value.clone());
    let name = written.or_else(|| text_of("OTEL_SERVICE_NAME", resolver)).or(among);
    (name.unwrap_or_else(|| "larder".to_owned()), attributes)
}

fn headers(written: &TracesTable, resolver: &mut Resolver<'_>) -> Vec<CollectorHeader> {
    match (&written.headers, &written.headers_file) {
        (Some(_), Some(file)) => {
            let fault = ValueFault::new("the headers are given twice");
            resolver.report(&file.at, fault.hint("keep one of `headers` and `headers_file`"));
            Vec::new()
        }
        (Some(lines), None) => {
            resolver.note_secret();
            let headers = header_lines(lines.value.expose_secret());
            resolver.accept(&lines.at, headers).unwrap_or_default()
        }
        (None, Some(file)) => {
            let Some(bytes) = resolver.secret_file(file, HEADERS_LEN_MAX) else {
                return Vec::new();
            };
            let headers = header_lines(&String::from_utf8_lossy(&bytes));
            resolver.accept(&file.at, headers).unwrap_or_default()
        }
        (None, None) => {
            let names = ["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"];
            let Some((name, text)) = first(&names, resolver) else { return Vec::new() };
            let headers = pairs(&text)
                .and_then(|pairs| pairs.iter().map(|(name, value)| header(name, value)).collect());
            let headers = headers.map_err(|fault| resolver.report_variable(name, fault));
            headers.unwrap_or_default()
        }
    }
}

/// Headers, each in a line of its own. No message shows one: what is wrong with it may be that it
/// holds nothing but a token.
fn header_lines(text: &str) -> Result<Vec<CollectorHeader>, ValueFault> {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let header = |line: &str| {
        let (name, value) = line.split_once(':').ok_or_else(no_header)?;
        header(name.trim(), value.trim())
    };
    lines.map(header).collect()
}

fn header(name: &str, value: &str) -> Result<CollectorHeader, ValueFault> {
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| no_header())?;
    let mut value = HeaderValue::from_str(value).map_err(|_| no_header())?;
    value.set_sensitive(true);
    Ok(CollectorHeader { name, value })
}

fn no_header() -> ValueFault {
    ValueFault::new("this is not a header").hint("write `name: value`, one header in a line")
}

/// Pairs as OpenTelemetry's variables have them: `a=1,b=2`, with values that may be escaped.
fn pairs(text: &str) -> Result<Vec<(String, String)>, ValueFault> {
    let pairs = text.split(',').filter(|pair| !pair.trim().is_empty());
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').filter(|(name, _)| !name.trim().is_empty())?;
        let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
        Some((name.trim().to_owned(), value.into_owned()))
    };
    let fault = || ValueFault::new("it is not a list of pairs").hint("write `name=value,…`");
    pairs.map(|it| pair(it).ok_or_else(fault)).collect()
}

fn ca_pem(written: &TracesTable, resolver: &mut Resolver<'_>) -> Option<Vec<u8>> {
    if let Some(ca) = &written.ca {
        let pem = resolver.file(ca, CA_LEN_MAX)?;
        let checked = check_ca(&pem)
            .map_err(|error| ValueFault::new(format!("this file cannot be trusted: {error}")));
        return resolver.accept(&ca.at, checked).map(|()| pem);
    }
    let names = ["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE"];
    let (name, path) = first(&names, resolver)?;
    let read = resolver.path(&path).and_then(|path| ConfigFile::read_present(&path, CA_LEN_MAX));
    let checked = read.and_then(|ConfigFile { bytes, .. }| {
        let checked = check_ca(&bytes).map(|()| bytes);
        checked.map_err(|error| ValueFault::new(format!("{} is unusable: {error}", quoted(&path))))
    });
    checked.map_err(|fault| resolver.report_variable(name, fault)).ok()
}

fn text_of(name: &'static str, resolver: &Resolver<'_>) -> Option<String> {
    resolver.environment.text(name)?.ok().map(str::to_owned)
}

/// The first of these variables that is set, and its value.
fn first(names: &[&'static str], resolver: &Resolver<'_>) -> Option<(&'static str, String)> {
    names.iter().find_map(|name| Some((*name, text_of(name, resolver)?)))
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The path below an endpoint that takes traces (OTLP 1.x, "OTLP/HTTP Request").
const TRACES_PATH: &str = "/v1/traces";

/// Tokens have a few KiB; more is the wrong file.
const HEADERS_LEN_MAX: u64 = 64 << 10;

/// A bundle of all public CAs has about 250 KiB.
const CA_LEN_MAX: u64 = 1 << 20;
