"""``python -m infra.local start|stop|status``: local S3 and GCS servers that stay up between commands."""

from __future__ import annotations

import argparse
import getpass
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.local.fake_gcs import FakeGcsServer
from infra.local.seaweed import SeaweedS3Server
from infra.local.server_process import ServerPackageMissingError, is_running, stop_detached

if TYPE_CHECKING:
    from collections.abc import Sequence

_KINDS: dict[str, type[SeaweedS3Server | FakeGcsServer]] = {"s3": SeaweedS3Server, "gcs": FakeGcsServer}


def default_state_file() -> Path:
    """Where ``start`` notes what it started, so that ``stop`` finds it."""
    return Path(tempfile.gettempdir()) / f"hangar-local-{getpass.getuser()}.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m infra.local", description=__doc__)
    parser.add_argument("command", choices=("start", "stop", "status"))
    parser.add_argument("--only", choices=tuple(_KINDS), help="one server instead of both")
    parser.add_argument("--state", type=Path, default=default_state_file(), help="default: %(default)s")
    options = parser.parse_args(arguments)
    kinds = [options.only] if options.only else list(_KINDS)
    servers = _read(options.state)
    code: int = {"start": _start, "stop": _stop, "status": _status}[options.command](kinds, servers)
    _write(options.state, servers)
    return code


def _start(kinds: Sequence[str], servers: dict[str, dict[str, Any]]) -> int:
    for kind in kinds:
        if kind in servers and is_running(servers[kind]["pid"]):
            continue
        server = _KINDS[kind](detached=True)
        try:
            server.start()
        except (ServerPackageMissingError, RuntimeError) as error:
            server.stop()
            print(f"Cannot start {kind}: {error}", file=sys.stderr)
            return 1
        servers[kind] = {
            "pid": server.process.pid,
            "folder": str(server.process.folder),
            "leftovers": [str(file) for file in server.process.leftovers],
            "url": server.url,
            "endpoint": server.endpoint,
            "storage_options": server.storage_options,
        }
    return _status(kinds, servers)


def _stop(kinds: Sequence[str], servers: dict[str, dict[str, Any]]) -> int:
    for kind in kinds:
        server = servers.pop(kind, None)
        if server is None:
            print(f"{kind}: not running")
        elif stop_detached(server["pid"], server["folder"], server["leftovers"]):
            print(f"{kind}: stopped")
        else:
            print(f"{kind}: was gone already")
    return 0


def _status(kinds: Sequence[str], servers: dict[str, dict[str, Any]]) -> int:
    for kind in kinds:
        server = servers.get(kind)
        if server is None or not is_running(server["pid"]):
            print(f"# {kind}: not running")
            continue
        print(f"# {kind}: running, process {server['pid']}, data in {server['folder']}")
        for line in _environment(kind, server):
            print(line)
    return 0


def _environment(kind: str, server: dict[str, Any]) -> list[str]:
    """Lines that a shell understands, to copy."""
    lines = [f"export HANGAR_{kind.upper()}_URL={server['url']}"]
    if kind == "s3":
        options = server["storage_options"]
        lines += [
            f"export AWS_ENDPOINT_URL={server['endpoint']}",
            f"export AWS_ACCESS_KEY_ID={options['key']}",
            f"export AWS_SECRET_ACCESS_KEY={options['secret']}",
            f"export AWS_DEFAULT_REGION={options['client_kwargs']['region_name']}",
        ]
    else:
        lines += [
            f"export STORAGE_EMULATOR_HOST={server['endpoint']}",
            "export GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT=false",
        ]
    return [*lines, f"# storage_options = {server['storage_options']!r}"]


def _read(state: Path) -> dict[str, dict[str, Any]]:
    if not state.exists():
        return {}
    servers: dict[str, dict[str, Any]] = json.loads(state.read_text())
    return servers


def _write(state: Path, servers: dict[str, dict[str, Any]]) -> None:
    if servers:
        state.write_text(json.dumps(servers, indent=2))
    else:
        state.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
