//! What the provider's own credentials must be allowed to do, and nothing more.

use std::collections::BTreeSet;

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
    statements.extend(pass_roles(config));
    statements.extend(use_keys(config));
    statements.push(owned("EndInstances", tags::SERVICE, &["ec2:TerminateInstances"]));
    statements.push(owned("HearBuilders", tags::SERVICE, &["ec2:GetConsoleOutput"]));
    statements.extend(match config.fleets {
        Fleets::AutoScaling => groups(),
        Fleets::Instances => Vec::new(),
    });
    statements.extend(target_groups());
    statements.extend(images());
    statements.extend(routes(config));
    let policy = json!({ "Version": "2012-10-17", "Statement": statements });
    serde_json::to_string_pretty(&policy).expect("invariant: plain data always serialises")
}

fn look(config: &Config) -> Value {
    let mut actions = vec![
        "cloudwatch:GetMetricData",
        "ec2:DescribeImageAttribute",
        "ec2:DescribeImages",
        "ec2:DescribeInstanceStatus",
        "ec2:DescribeInstances",
        "ec2:DescribeLaunchTemplateVersions",
        "ec2:DescribeLaunchTemplates",
        "ec2:DescribeSnapshots",
        "elasticloadbalancing:DescribeListeners",
        "elasticloadbalancing:DescribeRules",
        "elasticloadbalancing:DescribeTags",
        "elasticloadbalancing:DescribeTargetGroupAttributes",
        "elasticloadbalancing:DescribeTargetGroups",
        "elasticloadbalancing:DescribeTargetHealth",
    ];
    // Images are not removed that a group needs, whoever made the group.
    actions.push("autoscaling:DescribeAutoScalingGroups");
    actions.push(match config.fleets {
        Fleets::AutoScaling => "autoscaling:DescribeScalingActivities",
        Fleets::Instances => "ec2:DescribeFleets",
    });
    json!({ "Sid": "Look", "Effect": "Allow", "Action": actions, "Resource": "*" })
}

fn launch_templates() -> Value {
    made("MakeLaunchTemplates", tags::SERVICE, &["ec2:CreateLaunchTemplate"], "arn:*:ec2:*:*:launch-template/*")
}

/// Starting an instance concerns more than the instance. What it is started in is told by the launch template, and the
/// instance itself is tagged as ours.
///
/// That tag is not asked for here: of a group, the group puts it on and not the launch template, and whether the check that AWS makes
/// for the caller as a group is made sees it is written down nowhere.
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
    let makers = ["CreateLaunchTemplate", "RunInstances", "CreateFleet", "CreateImage", "CopyImage"];
    json!({
        "Sid": "TagWhatIsMade",
        "Effect": "Allow",
        "Action": "ec2:CreateTags",
        "Resource": "*",
        "Condition": { "StringEquals": { "ec2:CreateAction": makers } },
    })
}

/// The roles of the instances and of the builders of images.
fn pass_roles(config: &Config) -> Option<Value> {
    let profiles = [&config.launch.instance_profile, &config.images.instance_profile];
    // The role of an instance profile has its name, unless somebody gave it another one by hand.
    let roles: BTreeSet<String> =
        profiles.into_iter().flatten().map(|profile| format!("arn:*:iam::*:role/{profile}")).collect();
    let pass = json!({
        "Sid": "GiveInstancesTheirRole",
        "Effect": "Allow",
        "Action": "iam:PassRole",
        "Resource": roles,
        "Condition": { "StringLike": { "iam:PassedToService": "ec2.amazonaws.com*" } },
    });
    (!roles.is_empty()).then_some(pass)
}

/// The keys of the settings, with which EC2 encrypts for the caller. The account's default keys need nothing.
/// <https://docs.aws.amazon.com/ebs/latest/userguide/ebs-encryption-requirements.html>
fn use_keys(config: &Config) -> Vec<Value> {
    let of_copies = config.images.copies.iter().map(|copy| &copy.volume_key);
    let keys: BTreeSet<&String> = of_copies.chain([&config.launch.volume_key]).flatten().collect();
    if keys.is_empty() {
        return Vec::new();
    }
    vec![
        json!({
            "Sid": "UseVolumeKeys",
            "Effect": "Allow",
            "Action": ["kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncrypt*"],
            "Resource": keys,
        }),
        json!({
            "Sid": "LendVolumeKeysToEc2",
            "Effect": "Allow",
            "Action": "kms:CreateGrant",
            "Resource": keys,
            "Condition": { "Bool": { "kms:GrantIsForAWSResource": true } },
        }),
    ]
}

fn images() -> Vec<Value> {
    vec![
        made("MakeImages", tags::SERVICE, &["ec2:CopyImage", "ec2:CreateImage"], "arn:*:ec2:*::image/*"),
        made("MakeSnapshots", tags::SERVICE, &["ec2:CopyImage", "ec2:CreateImage"], "arn:*:ec2:*::snapshot/*"),
        owned(
            "ChangeImages",
            tags::SERVICE,
            &[
                "ec2:CopyImage",
                "ec2:CreateImage",
                "ec2:DeleteSnapshot",
                "ec2:DeregisterImage",
                "ec2:ModifyImageAttribute",
            ],
        ),
    ]
}

fn groups() -> Vec<Value> {
    let group = "arn:*:autoscaling:*:*:autoScalingGroup:*:autoScalingGroupName/immutable-*";
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
                "autoscaling:UpdateAutoScalingGroup",
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

    /// What a tag in another request needs, and what AWS asks about on behalf of the caller, are no calls of ours.
    const WITHOUT_A_CALL: [&str; 3] = ["ec2:CreateTags", "autoscaling:CreateOrUpdateTags", "iam:PassRole"];

    #[test]
    fn every_action_is_one_that_is_called() {
        let source = source(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
        let policy: Value = serde_json::from_str(&iam_policy(&config())).unwrap();
        for statement in policy["Statement"].as_array().unwrap() {
            let actions = match &statement["Action"] {
                Value::Array(actions) => actions.clone(),
                action => vec![action.clone()],
            };
            for action in actions.iter().map(|action| action.as_str().unwrap()) {
                let (_, call) = action.split_once(':').unwrap();
                let spell = |c: char| if c.is_uppercase() { format!("_{}", c.to_lowercase()) } else { c.to_string() };
                let call = call.chars().map(spell).collect::<String>();
                let called = source.contains(&format!(".{}(", call.trim_start_matches('_')));
                assert!(called || WITHOUT_A_CALL.contains(&action), "nothing calls {action}");
            }
        }
    }

    fn source(directory: &std::path::Path) -> String {
        let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        let text = |path: std::path::PathBuf| {
            if path.is_dir() { source(&path) } else { std::fs::read_to_string(path).unwrap() }
        };
        entries.map(text).collect()
    }

    #[test]
    fn the_readme_shows_the_policy() {
        let mut config = config();
        config.images.instance_profile = Some("image-builder".to_owned());
        config.routes = vec![
            "arn:aws:elasticloadbalancing:eu-west-1:123456789012:listener/app/web/0123456789abcdef/fedcba9876543210"
                .parse()
                .unwrap(),
        ];
        let policy = iam_policy(&config);
        let readme = include_str!("../README.md");
        assert!(readme.contains(&format!("```json\n{policy}\n```")), "the policy of the README should be:\n{policy}");
    }

    #[test]
    fn exactly_the_keys_of_the_settings_can_be_used() {
        let mut config = config();
        assert!(!iam_policy(&config).contains("kms:"));
        let copy = crate::ImageCopy::new(config.clients.ec2.clone());
        config.images = crate::ImageSettings::default().copy_to(copy.volume_key("arn:aws:kms:eu-west-1:1:key/2"));
        config.launch.volume_key = Some("arn:aws:kms:eu-central-1:1:key/1".to_owned());
        let policy: Value = serde_json::from_str(&iam_policy(&config)).unwrap();
        let statements = policy["Statement"].as_array().unwrap();
        let of_keys: Vec<&Value> = statements.iter().filter(|one| one["Action"].to_string().contains("kms:")).collect();
        assert_eq!(of_keys.len(), 2);
        for statement in of_keys {
            let keys = json!(["arn:aws:kms:eu-central-1:1:key/1", "arn:aws:kms:eu-west-1:1:key/2"]);
            assert_eq!(statement["Resource"], keys);
            let grants = statement["Action"].to_string().contains("CreateGrant");
            assert_eq!(grants, statement["Condition"]["Bool"]["kms:GrantIsForAWSResource"] == true, "{statement}");
        }
    }

    #[test]
    fn without_routes_no_route_can_be_changed() {
        assert!(!iam_policy(&config()).contains("ModifyListener"));
    }
}
