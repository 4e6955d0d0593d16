//! One call of a provider, for whoever does a part of it.

use google_cloud_gax::error::Error;
use immutable_core::model::RolloutId;
use immutable_core::provider::{IdempotencyKey, OpContext, ProviderError};

use crate::Config;
use crate::on_route::existing;
use crate::operation::{Change, Scope};

/// One call of a provider: what is done, and for which intent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Task<'a> {
    pub(crate) config: &'a Config,
    /// For errors.
    pub(crate) operation: &'static str,
    pub(crate) key: &'a IdempotencyKey,
    pub(crate) rollout: Option<&'a RolloutId>,
}

impl<'a> Task<'a> {
    pub(crate) fn new(config: &'a Config, operation: &'static str, cx: &'a OpContext) -> Self {
        Self { config, operation, key: &cx.key, rollout: cx.rollout.as_ref() }
    }

    /// A change of one thing, such as `urlMaps/web`. The step says which change of this call it is, by what is written.
    pub(crate) fn change(&self, scope: &'a Scope, target: String, step: &'a str) -> Change<'a> {
        Change { config: self.config, operation: self.operation, scope, target, key: self.key, step }
    }

    /// What was looked for, or nothing where there is none.
    pub(crate) fn found<T>(&self, answer: Result<T, Error>) -> Result<Option<T>, ProviderError> {
        existing(self.operation, answer)
    }
}
