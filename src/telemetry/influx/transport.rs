//! The way to an InfluxDB over HTTP: one client, its credentials, deadlines, and what the server's
//! status codes mean. Nothing here ever prints a token or a password.

use std::fmt;
use std::net::IpAddr;

use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};

use crate::fleet::Span;
use crate::telemetry::source::{SinkError, SourceError};

/// A token or password; it is never shown.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// Takes the text; white space around it (a file's last newline) is dropped.
    pub fn new(text: impl AsRef<str>) -> Self {
        Self(text.as_ref().trim().to_string())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text itself, for the one place that sends it.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("‹secret›")
    }
}

/// Who we are for the server.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Credentials {
    /// Nobody.
    #[default]
    None,
    /// A token of InfluxDB 2.x or 3.x.
    Token(Secret),
    /// A user of InfluxDB 1.x.
    User {
        /// The name.
        name: String,
        /// The password.
        password: Secret,
    },
}

/// How long is waited.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Timeouts {
    /// For a connection.
    pub connect: Span,
    /// For the next bytes of an answer.
    pub idle: Span,
    /// For a whole answer.
    pub whole: Span,
}

impl Default for Timeouts {
    /// 3 s, 10 s, 60 s.
    fn default() -> Self {
        Self { connect: Span::seconds(3), idle: Span::seconds(10), whole: Span::seconds(60) }
    }
}

/// Why a request did not give an answer that can be read.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// No answer, or not in time.
    Unreachable(String),
    /// The server is there but cannot serve now; it may say for how long.
    Busy(String, Option<Span>),
    /// It refused the credentials.
    Unauthorised(String),
    /// There is no such database, bucket or path.
    NotFound(String),
    /// The request has more bytes than it takes.
    TooLarge(String),
    /// It refused what was asked.
    Refused(String),
}

impl Failure {
    pub(super) fn into_source(self, source_name: &str) -> SourceError {
        let source_name = source_name.to_string();
        match self {
            Self::Unreachable(detail) | Self::Busy(detail, _) => {
                SourceError::Unreachable { source_name, detail }
            }
            Self::Unauthorised(detail) => SourceError::Unauthorised { source_name, detail },
            Self::NotFound(detail) | Self::TooLarge(detail) | Self::Refused(detail) => {
                SourceError::Refused { source_name, detail }
            }
        }
    }

    pub(super) fn into_sink(self, sink: &str) -> SinkError {
        let sink = sink.to_string();
        match self {
            Self::Unreachable(detail) => SinkError { sink, detail, retryable: true, wait: None },
            Self::Busy(detail, wait) => SinkError { sink, detail, retryable: true, wait },
            Self::Unauthorised(detail)
            | Self::NotFound(detail)
            | Self::TooLarge(detail)
            | Self::Refused(detail) => SinkError { sink, detail, retryable: false, wait: None },
        }
    }
}

/// A server and how to speak to it.
#[derive(Clone)]
pub(super) struct Server {
    client: Client,
    base: Url,
    authorization: Option<HeaderValue>,
    timeouts: Timeouts,
}

impl Server {
    /// # Errors
    /// A sentence about what is wrong with the address or the credentials.
    pub(super) fn new(url: &str, credentials: &Credentials, timeouts: Timeouts) -> Result<Self, String> {
        let mut base = Url::parse(url)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or("url: expected http://HOST:PORT or https://HOST:PORT")?;
        // Credentials within the address would be printed with it.
        let credentials = match (base.username().to_string(), base.password()) {
            (name, password) if !name.is_empty() && *credentials == Credentials::None => {
                Credentials::User { name, password: Secret::new(password.unwrap_or_default()) }
            }
            _ => credentials.clone(),
        };
        let _ = base.set_username("");
        let _ = base.set_password(None);
        base.set_query(None);
        base.set_fragment(None);
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let local = is_loopback(&base);
        // The provider is installed by `main`; a second time changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut client = Client::builder()
            .user_agent(concat!("foreshift/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(timeouts.connect.to_std())
            .read_timeout(timeouts.idle.to_std())
            .redirect(reqwest::redirect::Policy::none())
            .tcp_nodelay(true)
            // On one machine packing costs more than sending.
            .gzip(!local);
        if local {
            client = client.no_proxy();
        }
        let client = client.build().map_err(|e| format!("cannot make a client: {}", e.without_url()))?;
        Ok(Self { client, base, authorization: authorization(&credentials)?, timeouts })
    }

    /// `127.0.0.1:8086`, with a path where there is one.
    pub(super) fn address(&self) -> String {
        let host = self.base.host_str().unwrap_or_default();
        let port = self.base.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{host}{port}{}", self.base.path().trim_end_matches('/'))
    }

    /// How long a whole answer may take.
    pub(super) fn whole(&self) -> std::time::Duration {
        self.timeouts.whole.to_std()
    }

    pub(super) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        // The base ends with a slash and the path does not begin with one, so this joins.
        let url = self.base.join(path).unwrap_or_else(|_| self.base.clone());
        let request = self.client.request(method, url).header(ACCEPT, "application/json");
        match &self.authorization {
            Some(value) => request.header(AUTHORIZATION, value.clone()),
            None => request,
        }
    }

    /// Sends, and turns everything but success into a failure with the server's own words.
    pub(super) async fn send(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let sent = tokio::time::timeout(self.whole(), request.send()).await;
        let response = sent.map_err(|_| self.too_slow())?.map_err(network)?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let wait = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|v| v.to_str().ok()?.trim().parse::<i64>().ok())
            .map(|seconds| Span::seconds(seconds.clamp(0, 3600)));
        let body = tokio::time::timeout(self.timeouts.idle.to_std(), limited(response)).await;
        let detail = words(status, &body.unwrap_or_default());
        Err(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Failure::Unauthorised(detail),
            StatusCode::NOT_FOUND => Failure::NotFound(detail),
            StatusCode::PAYLOAD_TOO_LARGE => Failure::TooLarge(detail),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => Failure::Busy(detail, wait),
            s if s.is_server_error() => Failure::Busy(detail, wait),
            _ => Failure::Refused(detail),
        })
    }

    /// The whole body of a short answer as JSON.
    pub(super) async fn json<T: serde::de::DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> Result<T, Failure> {
        let response = self.send(request).await?;
        let read = tokio::time::timeout(self.whole(), response.bytes()).await;
        let bytes = read.map_err(|_| self.too_slow())?.map_err(network)?;
        serde_json::from_slice(&bytes).map_err(|e| Failure::Refused(format!("unexpected answer: {e}")))
    }

    pub(super) fn too_slow(&self) -> Failure {
        Failure::Unreachable(format!("no whole answer within {}", self.timeouts.whole))
    }
}

/// What the network said, without the address (it stands in the name already).
pub(super) fn network(error: reqwest::Error) -> Failure {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(&error);
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    Failure::Unreachable(text)
}

fn authorization(credentials: &Credentials) -> Result<Option<HeaderValue>, String> {
    let text = match credentials {
        Credentials::None => return Ok(None),
        Credentials::Token(token) if token.is_empty() => return Ok(None),
        Credentials::Token(token) => format!("Token {}", token.reveal()),
        Credentials::User { name, password } => format!("Token {name}:{}", password.reveal()),
    };
    let mut value = HeaderValue::from_str(&text)
        .map_err(|_| "credentials: expected visible ASCII characters alone".to_string())?;
    value.set_sensitive(true);
    Ok(Some(value))
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The first 4 kB of a body.
async fn limited(mut response: Response) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(piece)) = response.chunk().await {
        body.extend_from_slice(&piece);
        if body.len() > 4096 {
            body.truncate(4096);
            break;
        }
    }
    body
}

/// `404: could not find bucket "x"`, from InfluxDB's JSON or the start of any other body.
fn words(status: StatusCode, body: &[u8]) -> String {
    let said = serde_json::from_slice::<serde_json::Value>(body)
        .ok()
        .and_then(|json| {
            let text = json.get("message").or_else(|| json.get("error"))?.as_str()?;
            Some(text.to_string())
        })
        .unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
    let said: String = said
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .filter(|c| !c.is_control())
        .take(300)
        .collect();
    if said.is_empty() {
        format!("HTTP {}", status.as_u16())
    } else {
        format!("HTTP {}: {said}", status.as_u16())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(url: &str) -> Result<Server, String> {
        Server::new(url, &Credentials::Token(Secret::new("s3cr3t\n")), Timeouts::default())
    }

    #[test]
    fn no_secret_is_printed_and_a_password_in_the_address_is_moved_out_of_it() {
        let credentials = Credentials::User { name: "me".into(), password: Secret::new("s3cr3t") };
        assert!(!format!("{credentials:?}").contains("s3cr3t"));
        let server =
            Server::new("http://me:s3cr3t@127.0.0.1:8086", &Credentials::None, Timeouts::default()).unwrap();
        assert_eq!(server.address(), "127.0.0.1:8086");
        assert!(server.authorization.as_ref().is_some_and(HeaderValue::is_sensitive));
        assert!(!format!("{:?}", server.request(Method::GET, "ping")).contains("s3cr3t"));
    }

    #[test]
    fn a_path_of_a_proxy_is_kept() {
        let server = server("https://metrics.example.org/influx").unwrap();
        let request = server.request(Method::GET, "api/v2/query").build().unwrap();
        assert_eq!(request.url().as_str(), "https://metrics.example.org/influx/api/v2/query");
        assert_eq!(server.address(), "metrics.example.org/influx");
    }

    #[test]
    fn an_address_without_scheme_is_refused_with_what_was_expected() {
        let error = server("127.0.0.1:8086").err().unwrap();
        assert!(error.contains("http://HOST:PORT"), "{error}");
    }
}
