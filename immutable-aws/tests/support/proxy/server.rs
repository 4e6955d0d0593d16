//! The wire: HTTP from the SDK, HTTP to moto.

use std::io;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::http::{HeaderValue, Request, Response};
use hyper::service::service_fn;
use hyper::{client, server};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use super::call::{Answer, Call};
use super::{Proxy, cbor};
use crate::support::REGION;

pub(super) async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

/// Serves until the runtime ends.
pub(super) async fn run(listener: TcpListener, proxy: Proxy) {
    while let Ok((stream, _)) = listener.accept().await {
        let proxy = proxy.clone();
        let serve = service_fn(move |request| {
            let proxy = proxy.clone();
            async move { respond(&proxy, request).await }
        });
        // An error is a client that is gone, or one that is to hear nothing.
        tokio::spawn(server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), serve));
    }
}

/// The request outlives its client: what AWS has heard it does.
async fn respond(proxy: &Proxy, request: Request<Incoming>) -> io::Result<Response<Full<Bytes>>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let (proxy, call) = (proxy.clone(), Call::new(parts, body));
    let answer = tokio::spawn(async move { proxy.answer(call).await }).await;
    let Some(answer) = answer.expect("the proxy failed: see above") else {
        return Err(io::Error::other("this answer is lost"));
    };
    let mut response = Response::new(Full::new(answer.body));
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    Ok(response)
}

impl Proxy {
    /// Passes a request on as it is, unless moto does not speak its language.
    pub(super) async fn send(&self, call: &Call) -> Answer {
        if cbor::is_spoken(call) {
            return cbor::from_json(self.pass(&cbor::to_json(call)).await);
        }
        self.pass(call).await
    }

    /// Only the account is added, which is no part of the signature.
    async fn pass(&self, call: &Call) -> Answer {
        let mut request = Request::from_parts(call.parts.clone(), Full::new(call.body.clone()));
        request.headers_mut().insert("x-moto-account-id", HeaderValue::from_str(&self.0.account).unwrap());
        let answer = self.exchange(request).await.unwrap_or_else(|error| panic!("moto is gone: {error}"));
        let (parts, body) = answer.into_parts();
        let mut headers = parts.headers;
        for of_the_connection in ["connection", "transfer-encoding", "content-length"] {
            headers.remove(of_the_connection);
        }
        Answer { status: parts.status, headers, body }
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Bytes>, Box<dyn std::error::Error + Send + Sync>> {
        let stream = TokioIo::new(TcpStream::connect(self.0.moto).await?);
        let (mut sender, connection) = client::conn::http1::handshake(stream).await?;
        tokio::spawn(connection);
        let (parts, body) = sender.send_request(request).await?.into_parts();
        Ok(Response::from_parts(parts, body.collect().await?.to_bytes()))
    }

    /// A request of the proxy's own, not signed.
    pub(super) async fn ask(&self, service: &str, params: &[(&str, &str)]) -> Answer {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(params).finish();
        let scope = format!("AWS4-HMAC-SHA256 Credential=PROXY/20260101/{REGION}/{service}/aws4_request");
        let request = Request::post("/").header("host", self.0.moto.to_string()).header("authorization", scope);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let (parts, ()) = request.body(()).unwrap().into_parts();
        self.send(&Call::new(parts, body.into())).await
    }
}
