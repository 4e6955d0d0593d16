//! A probe that connects.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::HealthConfigError;
use super::look::{Finding, Settings, connect, in_words};
use crate::model::Sample;
use crate::provider::{HealthProbe, OpContext, ProbeTarget, ProviderError};

/// An instance is good when it accepts a TCP connection.
///
/// A target without an endpoint gets no sample. What this machine itself lacks (file handles, ports, a network, an answer to
/// a name) is an unknown look. The answer comes within nine tenths of the context's timeout; whoever was not reached by then is unknown.
///
/// ```
/// use immutable_core::health::TcpProbe;
/// use std::time::Duration;
///
/// let probe = TcpProbe::builder().timeout(Duration::from_millis(500)).build()?;
/// # Ok::<(), immutable_core::health::HealthConfigError>(())
/// ```
#[derive(Debug, Clone)]
pub struct TcpProbe {
    settings: Settings,
}

/// Builds a [`TcpProbe`].
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct TcpProbeBuilder {
    settings: Settings,
}

impl TcpProbe {
    /// A probe to be filled in; what is left out has its default.
    pub fn builder() -> TcpProbeBuilder {
        TcpProbeBuilder::default()
    }

    async fn look(host: &str, port: u16) -> Finding {
        let start = Instant::now();
        match connect(host, port).await {
            Ok(_) => Finding::good(format!("connected in {}", in_words(start.elapsed()))),
            Err(finding) => finding,
        }
    }
}

impl TcpProbeBuilder {
    /// How long one look may take; one second unless it is set.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = timeout;
        self
    }

    /// How many targets are looked at at once; 64 unless it is set.
    pub fn concurrency(mut self, looks: usize) -> Self {
        self.settings.concurrency = looks;
        self
    }

    /// The port to look at instead of the endpoint's own.
    pub fn port(mut self, port: u16) -> Self {
        self.settings.port = Some(port);
        self
    }

    /// The probe.
    ///
    /// # Errors
    /// [`HealthConfigError`] names the setting that cannot work.
    pub fn build(self) -> Result<TcpProbe, HealthConfigError> {
        self.settings.check("TCP probe")?;
        Ok(TcpProbe { settings: self.settings })
    }
}

#[async_trait]
impl HealthProbe for TcpProbe {
    async fn sample(&self, cx: &OpContext, targets: &[ProbeTarget]) -> Result<Vec<Sample>, ProviderError> {
        Ok(self.settings.look_at_all(cx, targets, Self::look).await)
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;
    use crate::model::Look;

    async fn look(probe: &TcpProbe, port: u16) -> Sample {
        let target = ProbeTarget {
            instance: "i-1".parse().unwrap(),
            fleet: "web-1".parse().unwrap(),
            endpoint: Some(format!("127.0.0.1:{port}").parse().unwrap()),
        };
        probe.sample(&OpContext::standalone("test"), &[target]).await.unwrap().remove(0)
    }

    #[tokio::test]
    async fn who_listens_is_good_and_who_does_not_is_bad() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let probe = TcpProbe::builder().build().unwrap();
        let sample = look(&probe, port).await;
        assert_eq!(sample.look, Look::Good);
        assert!(sample.evidence.starts_with("connected in "), "{}", sample.evidence);

        // Bound, so that nobody else gets the port, and not listening.
        let closed = TcpSocket::new_v4().unwrap();
        closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let sample = look(&probe, closed.local_addr().unwrap().port()).await;
        assert_eq!((sample.look, sample.evidence.as_str()), (Look::Bad, "connection refused"));
    }

    #[tokio::test]
    async fn the_port_of_the_probe_comes_before_the_endpoints() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let probe = TcpProbe::builder().port(listener.local_addr().unwrap().port()).build().unwrap();
        assert_eq!(look(&probe, 1).await.look, Look::Good);
    }

    #[test]
    fn a_setting_that_cannot_work_is_named() {
        let check = |probe: TcpProbeBuilder, expected: &str| {
            assert_eq!(probe.build().unwrap_err().to_string(), expected);
        };
        check(TcpProbe::builder().timeout(Duration::ZERO), "TCP probe: timeout must be longer than nothing");
        check(TcpProbe::builder().concurrency(0), "TCP probe: concurrency must be at least 1");
        check(TcpProbe::builder().port(0), "TCP probe: port must not be 0");
    }
}
