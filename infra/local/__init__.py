"""Real servers on this machine, from ordinary packages: S3 (SeaweedFS), GCS (fake-gcs-server), and a slow network."""

from infra.local.fake_gcs import FakeGcsServer
from infra.local.proxy import DelayingProxy
from infra.local.seaweed import SeaweedS3Server
from infra.local.server_process import ServerPackageMissingError

__all__ = ["DelayingProxy", "FakeGcsServer", "SeaweedS3Server", "ServerPackageMissingError"]
