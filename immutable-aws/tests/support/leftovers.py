"""Tells, as JSON, all that there is in an account of the emulator, as an independent client sees it.

Usage: leftovers.py ENDPOINT ACCOUNT REGION
"""

import json
import sys

import boto3

ENDPOINT, ACCOUNT, REGION = sys.argv[1:]


def client(service):
    made = boto3.client(
        service, endpoint_url=ENDPOINT, region_name=REGION, aws_access_key_id="look", aws_secret_access_key="look"
    )

    def add_account(request, **_):
        request.headers["x-moto-account-id"] = ACCOUNT

    made.meta.events.register("before-send.*", add_account)
    return made


def pages(of, operation, key, **parameters):
    return [thing for page in of.get_paginator(operation).paginate(**parameters) for thing in page[key]]


ec2, autoscaling, elb = client("ec2"), client("autoscaling"), client("elbv2")

instances = [
    instance
    for reservation in pages(ec2, "describe_instances", "Reservations")
    for instance in reservation["Instances"]
    if instance["State"]["Name"] != "terminated"
]
groups = {group["TargetGroupArn"]: group for group in pages(elb, "describe_target_groups", "TargetGroups")}


def fleet(thing):
    tags = {tag["Key"]: tag["Value"] for tag in thing.get("Tags", [])}
    return tags.get("immutable:fleet", "")


def owner(group):
    tags = elb.describe_tags(ResourceArns=[group])["TagDescriptions"][0]
    return fleet(tags) or groups[group]["TargetGroupName"]


def weights(actions):
    forwards = [action.get("ForwardConfig", {}).get("TargetGroups", []) for action in actions]
    return {owner(one["TargetGroupArn"]): one["Weight"] for forward in forwards for one in forward}


def routes():
    for balancer in elb.describe_load_balancers()["LoadBalancers"]:
        for listener in elb.describe_listeners(LoadBalancerArn=balancer["LoadBalancerArn"])["Listeners"]:
            yield listener["ListenerArn"], weights(listener["DefaultActions"])
            for rule in elb.describe_rules(ListenerArn=listener["ListenerArn"])["Rules"]:
                if not rule["IsDefault"]:
                    yield rule["RuleArn"], weights(rule["Actions"])


def targets(group):
    health = elb.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]
    return sorted(one["Target"]["Id"] for one in health)


print(
    json.dumps(
        {
            "instances": sorted([fleet(instance), instance["InstanceId"]] for instance in instances),
            "groups": sorted(
                [group["AutoScalingGroupName"], group["DesiredCapacity"]]
                for group in pages(autoscaling, "describe_auto_scaling_groups", "AutoScalingGroups")
            ),
            "launch_templates": sorted(
                template["LaunchTemplateName"]
                for template in pages(ec2, "describe_launch_templates", "LaunchTemplates")
            ),
            "target_groups": {owner(group): targets(group) for group in groups},
            "routes": dict(routes()),
            "images": sorted(image["ImageId"] for image in ec2.describe_images(Owners=["self"])["Images"]),
            "snapshots": len(ec2.describe_snapshots(OwnerIds=[ACCOUNT])["Snapshots"]),
            "loose_volumes": sum(1 for volume in ec2.describe_volumes()["Volumes"] if not volume["Attachments"]),
        }
    )
)
