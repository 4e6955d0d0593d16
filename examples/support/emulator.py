"""Runs moto on a free port with a furnished account, prints the variables that lead to it, and ends when its input is closed.

Beyond moto, it plays the machine that an image is built on: it says on its console that all went well, and stops. It does not run the recipe.
"""

import base64
import gzip
import hashlib
import os
import re
import sys
import threading
import time

# Both have to be known before moto is loaded. The images are checked, and there are no others than ours.
os.environ["MOTO_ENABLE_AMI_VALIDATION"] = "1"
os.environ["MOTO_EC2_LOAD_DEFAULT_AMIS"] = "false"

import boto3
from moto.core.responses import ActionResult
from moto.ec2.models import EC2Backend
from moto.ec2.responses.general import General
from moto.ec2.responses.instances import InstanceResponse
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

REGION = "eu-west-1"
ACCESS = {"AWS_ACCESS_KEY_ID": "emulator", "AWS_SECRET_ACCESS_KEY": "emulator", "AWS_REGION": REGION}

create_volume = EC2Backend.create_volume


def with_the_size_of_the_image(self, size=None, zone_name=None, snapshot_id=None, **settings):
    """moto refuses a root volume without a size; on AWS it has the size that it has in the AMI."""
    if size is None and snapshot_id is None:
        size = 8
    return create_volume(self, size=size, zone_name=zone_name, snapshot_id=snapshot_id, **settings)


create_image = EC2Backend.create_image


def with_tags_of_images_only(self, instance_id, name, description, tag_specifications):
    """moto does not know the tags of the snapshots of an image."""
    known = [tags for tags in tag_specifications if tags["ResourceType"] == "image"]
    return create_image(self, instance_id, name, description, tag_specifications=known)


EC2Backend.create_volume = with_the_size_of_the_image
EC2Backend.create_image = with_tags_of_images_only
InstanceResponse._validate_block_device_mapping = staticmethod(lambda mapping: None)
General.get_console_output = lambda self: ActionResult(
    {"InstanceId": self._get_param("InstanceId"), "Output": consoles.get(self._get_param("InstanceId"), "")}
)

consoles = {}


def play_builders(ec2):
    """Builders say that they are done, and stop."""
    is_builder = [{"Name": "tag:immutable:role", "Values": ["builder"]}]
    while True:
        time.sleep(1)
        for reservation in ec2.describe_instances(Filters=is_builder)["Reservations"]:
            for instance in reservation["Instances"]:
                name = instance["InstanceId"]
                if name in consoles or instance["State"]["Name"] != "running":
                    continue
                data = ec2.describe_instance_attribute(InstanceId=name, Attribute="userData")["UserData"]["Value"]
                script = base64.b64decode(data)
                script = gzip.decompress(script) if script[:2] == b"\x1f\x8b" else script
                nonce = re.search(rb"^# immutable-nonce: (\S+)$", script, re.MULTILINE).group(1).decode()
                digest = hashlib.sha256(script).hexdigest()
                console = f"immutable {nonce} done {digest}\n"
                consoles[name] = base64.b64encode(console.encode()).decode()
                ec2.stop_instances(InstanceIds=[name])


def furnish(client):
    """A network, a balancer whose listener forwards to a target group, and two images."""
    ec2, elb = client("ec2"), client("elbv2")
    vpc = ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    subnets = []
    for zone, block in (("a", "10.1.0.0/20"), ("b", "10.1.16.0/20")):
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock=block, AvailabilityZone=REGION + zone)
        subnets.append(subnet["Subnet"]["SubnetId"])
    group = ec2.create_security_group(VpcId=vpc, GroupName="web", Description="web")["GroupId"]
    balancer = elb.create_load_balancer(Name="web", Subnets=subnets)["LoadBalancers"][0]["LoadBalancerArn"]
    targets = elb.create_target_group(Name="web", Protocol="HTTP", Port=8080, VpcId=vpc)["TargetGroups"][0]
    forward = {"Type": "forward", "TargetGroupArn": targets["TargetGroupArn"]}
    listener = elb.create_listener(LoadBalancerArn=balancer, Protocol="HTTP", Port=80, DefaultActions=[forward])
    images = [ec2.register_image(Name=name, RootDeviceName="/dev/xvda")["ImageId"] for name in ("web-1", "web-2")]
    yield "IMMUTABLE_AWS_SUBNETS", ",".join(subnets)
    yield "IMMUTABLE_AWS_SECURITY_GROUPS", group
    yield "IMMUTABLE_AWS_INSTANCE_TYPES", "t3.small"
    yield "IMMUTABLE_AWS_PORT", "8080"
    yield "IMMUTABLE_AWS_ROUTES", listener["Listeners"][0]["ListenerArn"]
    yield "IMMUTABLE_AWS_LIST_LAG_SECONDS", "0"
    for image in images:
        yield "IMAGE", image


server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
endpoint = f"http://127.0.0.1:{server.port}"


def client(service):
    keys = {"aws_access_key_id": "emulator", "aws_secret_access_key": "emulator"}
    return boto3.client(service, endpoint_url=endpoint, region_name=REGION, **keys)


for name, value in {"AWS_ENDPOINT_URL": endpoint, **ACCESS}.items():
    print(f"{name}={value}")
for name, value in furnish(client):
    print(f"{name}={value}")
print(flush=True)
threading.Thread(target=play_builders, args=(client("ec2"),), daemon=True).start()
sys.stdin.buffer.read()
os._exit(0)
