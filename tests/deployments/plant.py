"""Saves blocks with the secrets of the test: AWS keys, and a hook that nobody answers."""

import sys

from prefect_aws import AwsCredentials
from pydantic import SecretStr

from blocks.notifications import AppriseTarget

key, secret, password = sys.argv[1:]
AwsCredentials(aws_access_key_id=key, aws_secret_access_key=SecretStr(secret)).save("planted", overwrite=True)
AppriseTarget(url=SecretStr(f"json://user:{password}@127.0.0.1:9/hook")).save("planted", overwrite=True)
