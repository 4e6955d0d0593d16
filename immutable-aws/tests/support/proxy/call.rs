//! One request to an API of AWS, and its answer.

use bytes::Bytes;
use hyper::http::request::Parts;
use hyper::http::{HeaderMap, HeaderValue, StatusCode};

/// A request: all of it, so that it can be passed on with its signature, and what it asks for.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) parts: Parts,
    pub(super) body: Bytes,
    /// The service's name in the signature.
    pub(super) service: String,
    pub(super) action: String,
    params: Vec<(String, String)>,
}

impl Call {
    pub(super) fn new(parts: Parts, body: Bytes) -> Self {
        let service = service(&parts.headers).unwrap_or_default();
        let form = |body: &[u8]| -> Vec<(String, String)> { form_urlencoded::parse(body).into_owned().collect() };
        let is_form = has(&parts.headers, "content-type", "x-www-form-urlencoded");
        let params = if is_form { form(&body) } else { Vec::new() };
        let mut call = Self { parts, body, service, action: String::new(), params };
        // The newer protocols have the action at the end of the path.
        let of_path = call.parts.uri.path().rsplit('/').next().unwrap_or_default().to_owned();
        call.action = call.get("Action").map_or(of_path, str::to_owned);
        call
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether there is a parameter whose name starts so.
    pub(super) fn names(&self, start: &str) -> bool {
        self.params.iter().any(|(key, _)| key.starts_with(start))
    }

    /// The values of a list: all parameters between these two ends of a name.
    pub(super) fn all<'a>(&'a self, start: &'a str, end: &'a str) -> impl Iterator<Item = &'a str> {
        let fits = move |key: &str| key.starts_with(start) && key.ends_with(end);
        self.params.iter().filter(move |(key, _)| fits(key)).map(|(_, value)| value.as_str())
    }

    /// What is asked for, in an order that does not depend on the caller.
    pub(super) fn wish(&self) -> Vec<(String, String)> {
        let mut params = self.params.clone();
        params.sort();
        params
    }

    /// Another request with other parameters. Its signature no longer fits.
    pub(super) fn with(&self, params: Vec<(String, String)>) -> Self {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(&params).finish();
        let mut parts = self.parts.clone();
        parts.headers.insert("content-length", HeaderValue::from(body.len()));
        Self { parts, body: body.into(), service: self.service.clone(), action: self.action.clone(), params }
    }

    pub(super) fn params(&self) -> Vec<(String, String)> {
        self.params.clone()
    }
}

/// The fourth part of the credential's scope.
fn service(headers: &HeaderMap) -> Option<String> {
    let credential = headers.get("authorization")?.to_str().ok()?.split("Credential=").nth(1)?;
    credential.split(['/', ',']).nth(3).map(str::to_owned)
}

fn has(headers: &HeaderMap, name: &str, part: &str) -> bool {
    headers.get(name).and_then(|value| value.to_str().ok()).is_some_and(|value| value.contains(part))
}

/// What is sent back.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn xml(status: StatusCode, text: String) -> Self {
        let headers = HeaderMap::from_iter([("content-type".parse().unwrap(), HeaderValue::from_static("text/xml"))]);
        Self { status, headers, body: text.into() }
    }

    /// An error in the form of a service.
    pub(super) fn refusal(service: &str, status: u16, code: &str, message: &str) -> Self {
        let error = format!("<Code>{code}</Code><Message>{message}</Message>");
        let text = if service == "ec2" {
            format!("<Response><Errors><Error>{error}</Error></Errors><RequestID>proxy</RequestID></Response>")
        } else {
            format!(
                "<ErrorResponse><Error><Type>Sender</Type>{error}</Error><RequestId>proxy</RequestId></ErrorResponse>"
            )
        };
        Self::xml(StatusCode::from_u16(status).unwrap(), text)
    }

    /// The text of a good answer in XML.
    pub(super) fn text(&self) -> Option<&str> {
        let text = std::str::from_utf8(&self.body).ok()?;
        (self.status == StatusCode::OK && text.trim_start().starts_with('<')).then_some(text)
    }

    pub(super) fn with_text(mut self, text: String) -> Self {
        self.body = text.into();
        self.headers.remove("content-length");
        self
    }
}
