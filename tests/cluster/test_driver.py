"""The driver fulfils the contract, with real guests on a real cluster."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from interlock.creation.plan import plan
from interlock.creation.wishes import Wishes
from interlock.drivers.conformance import DriverConformance
from interlock.drivers.contract import Site
from interlock.drivers.ganeti.driver import GanetiDriver


class TestGanetiDriverConforms(DriverConformance):
    """`interlock.drivers.conformance`, on the cluster."""

    START_S = 300.0

    @pytest.fixture
    def driver(self) -> GanetiDriver:
        return GanetiDriver()

    @pytest.fixture
    def site(self, driver, home) -> Iterator[Site]:
        """Return a site with the materials of the image `tiny`."""
        wishes = Wishes(memory_bytes=256 << 20, disk_bytes=1 << 30, user="ada", cluster="test")
        draft = plan(home, "web", "tiny", driver, wishes)(print)
        directory = home.directory("web")
        directory.mkdir(mode=0o700, parents=True)
        for file, content in draft.materials.items():
            if isinstance(content, bytes):
                (directory / file).write_bytes(content)
            else:
                shutil.copyfile(content, directory / file)
        (directory / "ssh.key").chmod(0o600)
        with tempfile.TemporaryDirectory(prefix="il-") as short:
            yield Site("web", directory, Path(short, "web"), draft.spec)
