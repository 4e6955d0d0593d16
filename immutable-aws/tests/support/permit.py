"""Makes a user in an account of the emulator, who is allowed what the policy says. Prints the id and the secret of an access key.

Usage: permit.py ENDPOINT ACCOUNT POLICY
"""

import sys

import boto3

ENDPOINT, ACCOUNT, POLICY = sys.argv[1:]

iam = boto3.client(
    "iam", endpoint_url=ENDPOINT, region_name="us-east-1", aws_access_key_id="admin", aws_secret_access_key="admin"
)


def add_account(request, **_):
    request.headers["x-moto-account-id"] = ACCOUNT


iam.meta.events.register("before-send.*", add_account)
iam.create_user(UserName="deploy")
iam.put_user_policy(UserName="deploy", PolicyName="deploy", PolicyDocument=POLICY)
key = iam.create_access_key(UserName="deploy")["AccessKey"]
print(key["AccessKeyId"], key["SecretAccessKey"])
