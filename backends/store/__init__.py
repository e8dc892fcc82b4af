"""Objects in a bucket, a folder or memory, behind one port."""

from hangar_cloud.backends.store.counting import CountingStore
from hangar_cloud.backends.store.opening import open_store
from hangar_cloud.backends.store.port import ObjectInfo, ObjectStore, Progress
from hangar_cloud.backends.store.ranges import RangeRequest
from hangar_cloud.backends.store.retry import RetryPolicy

__all__ = [
    "CountingStore",
    "ObjectInfo",
    "ObjectStore",
    "Progress",
    "RangeRequest",
    "RetryPolicy",
    "open_store",
]
