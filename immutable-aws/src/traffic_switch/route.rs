//! Listeners and rules: reading what they do, and writing where they forward to with all else as it was.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

use aws_sdk_elasticloadbalancingv2::types::{Action, ActionTypeEnum, ForwardActionConfig, TargetGroupTuple};
use immutable_core::provider::{Effect, ErrorKind, ProviderError};

use crate::Clients;
use crate::error::{failed, unseen};
use crate::tags::Tags;

/// So many resources are asked for their tags in a request.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_DescribeTags.html>
const TAGS_BATCH: usize = 20;

/// Where traffic enters, by its ARN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    /// What a listener of an application or network load balancer does by default.
    Listener(String),
    /// What a rule of a listener of an application load balancer does.
    Rule(String),
}

impl Route {
    /// What the ARN names; nothing, when it is neither.
    pub(crate) fn parse(arn: &str) -> Option<Self> {
        let mut parts = arn.splitn(6, ':');
        let (start, _, service) = (parts.next()?, parts.next()?, parts.next()?);
        let resource = parts.nth(2).filter(|_| start == "arn" && service == "elasticloadbalancing")?;
        match resource.split('/').take(2).collect::<Vec<_>>()[..] {
            ["listener", "app" | "net"] => Some(Self::Listener(arn.to_owned())),
            ["listener-rule", "app"] => Some(Self::Rule(arn.to_owned())),
            _ => None,
        }
    }

    pub(crate) fn arn(&self) -> &str {
        match self {
            Self::Listener(arn) | Self::Rule(arn) => arn,
        }
    }

    /// What the route does, in the order in which it does it.
    pub(crate) async fn actions(
        &self,
        clients: &Clients,
        operation: &'static str,
        before: Effect,
    ) -> Result<Vec<Action>, ProviderError> {
        let found = match self {
            Self::Listener(arn) => {
                let answer = clients.elb.describe_listeners().listener_arns(arn).send().await;
                let listeners = answer.map_err(|error| unseen(operation, before, error))?.listeners.unwrap_or_default();
                listeners.into_iter().next().map(|listener| listener.default_actions)
            }
            Self::Rule(arn) => {
                let answer = clients.elb.describe_rules().rule_arns(arn).send().await;
                let rules = answer.map_err(|error| unseen(operation, before, error))?.rules.unwrap_or_default();
                if rules.iter().any(|rule| rule.is_default == Some(true)) {
                    let message = format!("{arn} is the default rule, which is its listener's: name the listener");
                    return Err(ProviderError::new(ErrorKind::InvalidRequest, operation, message).without_effect());
                }
                rules.into_iter().next().map(|rule| rule.actions)
            }
        };
        found.map(Option::unwrap_or_default).ok_or_else(|| {
            let message = format!("there is no {}", self.arn());
            ProviderError::new(ErrorKind::NotFound, operation, message).without_effect()
        })
    }

    /// Lets the route do this. What is not said, such as the conditions of a rule or the certificates of a listener, stays.
    pub(crate) async fn write(
        &self,
        clients: &Clients,
        operation: &'static str,
        actions: Vec<Action>,
    ) -> Result<(), ProviderError> {
        let actions = Some(actions.into_iter().map(as_written).collect());
        match self {
            Self::Listener(arn) => {
                let request = clients.elb.modify_listener().listener_arn(arn).set_default_actions(actions);
                request.send().await.map_err(|error| failed(operation, Effect::Unknown, error))?;
            }
            Self::Rule(arn) => {
                let request = clients.elb.modify_rule().rule_arn(arn).set_actions(actions);
                request.send().await.map_err(|error| failed(operation, Effect::Unknown, error))?;
            }
        }
        Ok(())
    }
}

/// An action as it has to be written so that it stays as it was read.
fn as_written(mut action: Action) -> Action {
    // The secret is never told, and without this word it would have to be given again.
    // https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_AuthenticateOidcActionConfig.html
    if let Some(oidc) = &mut action.authenticate_oidc_config {
        oidc.client_secret = None;
        oidc.use_existing_client_secret = Some(true);
    }
    action
}

/// The target groups that an action forwards to, with their weights. A single one may be told without a weight.
pub(crate) fn forwards(action: &Action) -> Vec<(String, u32)> {
    let config = action.forward_config.as_ref();
    let listed = config.and_then(|config| config.target_groups.as_deref()).unwrap_or_default();
    let weight = |tuple: &TargetGroupTuple| tuple.weight.map_or(1, |weight| u32::try_from(weight).unwrap_or_default());
    let groups: Vec<_> =
        listed.iter().filter_map(|tuple| Some((tuple.target_group_arn.clone()?, weight(tuple)))).collect();
    match (&action.target_group_arn, groups.is_empty()) {
        (Some(arn), true) => vec![(arn.clone(), 1)],
        _ => groups,
    }
}

/// The action that forwards.
pub(crate) fn forward(actions: &[Action]) -> Option<&Action> {
    actions.iter().find(|action| action.r#type == Some(ActionTypeEnum::Forward))
}

/// The actions with other target groups, and all else as it was. The groups stand in the configuration only: an action that names
/// one in both places is refused unless both are the same.
pub(crate) fn forwarding_to(actions: &[Action], groups: &[(String, u32)]) -> Vec<Action> {
    let tuple = |(arn, weight): &(String, u32)| {
        let weight = i32::try_from(*weight).unwrap_or(i32::MAX);
        TargetGroupTuple::builder().target_group_arn(arn).weight(weight).build()
    };
    let mut actions = actions.to_vec();
    let mut forwards = actions.iter_mut().filter(|action| action.r#type == Some(ActionTypeEnum::Forward));
    if let Some(forward) = forwards.next() {
        let config = forward.forward_config.take().unwrap_or_else(|| ForwardActionConfig::builder().build());
        let sticky = config.target_group_stickiness_config;
        let tuples = groups.iter().map(tuple).collect();
        let config = ForwardActionConfig::builder().set_target_groups(Some(tuples));
        forward.forward_config = Some(config.set_target_group_stickiness_config(sticky).build());
        forward.target_group_arn = None;
    }
    actions
}

/// The target groups that requests go to, as a text that is the same whenever they and their weights are.
pub(crate) fn traffic(actions: &[Action]) -> String {
    let groups = forward(actions).map(forwards).unwrap_or_default().into_iter();
    groups
        .filter(|(_, weight)| *weight > 0)
        .map(|(arn, weight)| format!("{arn} {weight}\n"))
        .collect::<Vec<_>>()
        .concat()
}

/// All that the actions do, as a text that is the same whenever that is.
pub(crate) fn text(actions: &[Action]) -> String {
    let mut text = String::new();
    for action in actions {
        let mut rest = forwarding_to(std::slice::from_ref(action), &[]).remove(0);
        // These have no order of their own.
        let oidc = rest.authenticate_oidc_config.as_mut();
        let oidc = oidc.and_then(|config| config.authentication_request_extra_params.take());
        let cognito = rest.authenticate_cognito_config.as_mut();
        let cognito = cognito.and_then(|config| config.authentication_request_extra_params.take());
        let sorted = |parameters: Option<HashMap<String, String>>| {
            parameters.unwrap_or_default().into_iter().collect::<BTreeMap<_, _>>()
        };
        // Writing into a text cannot fail.
        let _ = writeln!(text, "{rest:?} {:?} {:?} {:?}", sorted(oidc), sorted(cognito), forwards(action));
    }
    text
}

/// The tags of some resources, by their ARNs.
pub(crate) async fn tags(
    clients: &Clients,
    operation: &'static str,
    before: Effect,
    arns: &[&str],
) -> Result<BTreeMap<String, Tags>, ProviderError> {
    let mut found = BTreeMap::new();
    for batch in arns.chunks(TAGS_BATCH) {
        let batch = batch.iter().map(|arn| (*arn).to_owned()).collect();
        let answer = clients.elb.describe_tags().set_resource_arns(Some(batch)).send().await;
        let answer = answer.map_err(|error| unseen(operation, before, error))?;
        for told in answer.tag_descriptions.unwrap_or_default() {
            let pairs = told.tags.unwrap_or_default().into_iter();
            let pairs = pairs.filter_map(|tag| Some((tag.key?, tag.value.unwrap_or_default())));
            found.insert(told.resource_arn.unwrap_or_default(), pairs.collect());
        }
    }
    Ok(found)
}
