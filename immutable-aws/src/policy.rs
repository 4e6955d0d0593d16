//! What the provider's own credentials must be allowed to do, and nothing more.

use serde_json::{Value, json};

use crate::config::{Config, Fleets};
use crate::tags;

/// The least that the provider has to be allowed with these settings, as the JSON of an IAM policy.
///
/// What is read cannot be narrowed, as AWS has no permissions for parts of a list. What is changed or ended is only what has an ownership tag
/// (`immutable:service`, of target groups `immutable:fleet`), which is put on as it is made and cannot be put on anything else; of listeners and rules only
/// [`routes`](crate::ConfigBuilder::routes); and the only role that instances can be given is that of the settings.
///
/// ```no_run
/// # fn example(config: &immutable_aws::Config) {
/// std::fs::write("policy.json", immutable_aws::iam_policy(config)).expect("the file can be written");
/// # }
/// ```
pub fn iam_policy(config: &Config) -> String {
    let mut statements = vec![look(config), launch_templates(), start(), tag()];
    statements.extend(config.launch.instance_profile.as_ref().map(|profile| pass_role(profile)));
    statements.push(owned("EndInstances", tags::SERVICE, &["ec2:TerminateInstances"]));
    statements.extend(match config.fleets {
        Fleets::AutoScaling => groups(),
        Fleets::Instances => Vec::new(),
    });
    statements.extend(target_groups());
    statements.extend(routes(config));
    let policy = json!({ "Version": "2012-10-17", "Statement": statements });
    serde_json::to_string_pretty(&policy).expect("invariant: plain data always serialises")
}

fn look(config: &Config) -> Value {
    let mut actions = vec![
        "cloudwatch:GetMetricData",
        "ec2:DescribeImages",
        "ec2:DescribeInstanceStatus",
        "ec2:DescribeInstances",
        "ec2:DescribeLaunchTemplates",
        "elasticloadbalancing:DescribeListeners",
        "elasticloadbalancing:DescribeRules",
        "elasticloadbalancing:DescribeTags",
        "elasticloadbalancing:DescribeTargetGroupAttributes",
        "elasticloadbalancing:DescribeTargetGroups",
        "elasticloadbalancing:DescribeTargetHealth",
    ];
    actions.extend(match config.fleets {
        Fleets::AutoScaling => vec![
            "autoscaling:DescribeAutoScalingGroups",
            "autoscaling:DescribeAutoScalingInstances",
            "autoscaling:DescribeScalingActivities",
        ],
        Fleets::Instances => vec!["ec2:DescribeFleets"],
    });
    json!({ "Sid": "Look", "Effect": "Allow", "Action": actions, "Resource": "*" })
}

fn launch_templates() -> Value {
    made("MakeLaunchTemplates", tags::SERVICE, &["ec2:CreateLaunchTemplate"], "arn:*:ec2:*:*:launch-template/*")
}

/// Starting an instance concerns more than the instance. What it is started in is told by the launch template, and the
/// instance itself is tagged as ours.
fn start() -> Value {
    json!({
        "Sid": "StartInstances",
        "Effect": "Allow",
        "Action": ["ec2:RunInstances", "ec2:CreateFleet"],
        "Resource": "*",
    })
}

/// Tags are put on by the request that makes a thing, and by no other.
fn tag() -> Value {
    let makers = ["CreateLaunchTemplate", "RunInstances", "CreateFleet", "CreateImage"];
    json!({
        "Sid": "TagWhatIsMade",
        "Effect": "Allow",
        "Action": "ec2:CreateTags",
        "Resource": "*",
        "Condition": { "StringEquals": { "ec2:CreateAction": makers } },
    })
}

fn pass_role(profile: &str) -> Value {
    json!({
        "Sid": "GiveInstancesTheirRole",
        "Effect": "Allow",
        "Action": "iam:PassRole",
        // The role of an instance profile has its name, unless somebody gave it another one by hand.
        "Resource": format!("arn:*:iam::*:role/{profile}"),
        "Condition": { "StringLike": { "iam:PassedToService": "ec2.amazonaws.com*" } },
    })
}

fn groups() -> Vec<Value> {
    let group = "arn:*:autoscaling:*:*:autoScalingGroup:*:autoScalingGroupName/*";
    vec![
        made(
            "MakeGroups",
            tags::SERVICE,
            &["autoscaling:CreateAutoScalingGroup", "autoscaling:CreateOrUpdateTags"],
            group,
        ),
        owned(
            "ChangeGroups",
            tags::SERVICE,
            &[
                "autoscaling:DeleteAutoScalingGroup",
                "autoscaling:DetachInstances",
                "autoscaling:SetDesiredCapacity",
                "autoscaling:SuspendProcesses",
                "autoscaling:TerminateInstanceInAutoScalingGroup",
            ],
        ),
    ]
}

fn target_groups() -> Vec<Value> {
    let group = "arn:*:elasticloadbalancing:*:*:targetgroup/*";
    vec![
        made("MakeTargetGroups", tags::FLEET, &["elasticloadbalancing:CreateTargetGroup"], group),
        json!({
            "Sid": "TagTargetGroupsAsTheyAreMade",
            "Effect": "Allow",
            "Action": "elasticloadbalancing:AddTags",
            "Resource": group,
            "Condition": { "StringEquals": { "elasticloadbalancing:CreateAction": "CreateTargetGroup" } },
        }),
        owned(
            "ChangeTargetGroups",
            tags::FLEET,
            &[
                "elasticloadbalancing:DeleteTargetGroup",
                "elasticloadbalancing:DeregisterTargets",
                "elasticloadbalancing:ModifyTargetGroupAttributes",
                "elasticloadbalancing:RegisterTargets",
            ],
        ),
        owned("RemoveFleets", tags::SERVICE, &["ec2:DeleteLaunchTemplate"]),
    ]
}

/// The listeners and rules that are named. Without any, none can be changed.
fn routes(config: &Config) -> Option<Value> {
    let arns: Vec<&str> = config.routes.iter().map(immutable_core::model::RouteId::as_str).collect();
    let change = json!({
        "Sid": "MoveTraffic",
        "Effect": "Allow",
        "Action": [
            "elasticloadbalancing:AddTags",
            "elasticloadbalancing:ModifyListener",
            "elasticloadbalancing:ModifyRule",
        ],
        "Resource": arns,
    });
    (!arns.is_empty()).then_some(change)
}

/// Making something that gets the ownership tag in the same request.
fn made(sid: &str, tag: &str, actions: &[&str], resource: &str) -> Value {
    json!({
        "Sid": sid,
        "Effect": "Allow",
        "Action": actions,
        "Resource": resource,
        "Condition": { "StringLike": { (format!("aws:RequestTag/{tag}")): "?*" } },
    })
}

/// Changing or ending something that has the ownership tag.
fn owned(sid: &str, tag: &str, actions: &[&str]) -> Value {
    json!({
        "Sid": sid,
        "Effect": "Allow",
        "Action": actions,
        "Resource": "*",
        "Condition": { "StringLike": { (format!("aws:ResourceTag/{tag}")): "?*" } },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::config;

    /// Every statement that changes something is narrowed, by what it is about or by a condition; starting instances is told by
    /// what it is started from.
    #[test]
    fn nothing_is_changed_that_is_not_ours() {
        for fleets in [Fleets::AutoScaling, Fleets::Instances] {
            let mut config = config();
            config.fleets = fleets;
            config.routes = vec!["arn:aws:elasticloadbalancing:eu-west-1:1:listener/app/web/1/2".parse().unwrap()];
            let policy: Value = serde_json::from_str(&iam_policy(&config)).unwrap();
            for statement in policy["Statement"].as_array().unwrap() {
                let sid = statement["Sid"].as_str().unwrap();
                let is_narrow = statement["Resource"] != "*" || !statement["Condition"].is_null();
                assert!(is_narrow || ["Look", "StartInstances"].contains(&sid), "{statement}");
                if sid == "Look" {
                    let actions = statement["Action"].as_array().unwrap();
                    let reads =
                        |action: &Value| [":Describe", ":Get"].iter().any(|verb| action.to_string().contains(verb));
                    assert!(actions.iter().all(reads), "{statement}");
                }
            }
        }
    }

    #[test]
    fn without_routes_no_route_can_be_changed() {
        assert!(!iam_policy(&config()).contains("ModifyListener"));
    }
}
