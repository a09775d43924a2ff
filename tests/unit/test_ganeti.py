"""The ganeti driver keeps the contract on a cluster, and reports what the cluster says in Interlock's words.

tests/ganeti/rapi.py stands in for the cluster: it answers as a real one did, by recorded.json. There are no real
guests, so each counts as ready at once.
"""

import json
import math
import os
import shutil
import subprocess
import sys

import pytest
from ganeti.rapi import RECORDED, SECRET, USER, StandIn, certify
from promised import check_printed

from interlock import Interlock
from interlock.drivers.conformance import DriverConformance
from interlock.drivers.contract import INITRD, KERNEL, KNOWN_HOSTS, SSH_KEY, Deadline, Site
from interlock.drivers.ganeti import cluster as clusters
from interlock.drivers.ganeti import driver as ganeti
from interlock.drivers.ganeti import guest, store
from interlock.drivers.ganeti import machine as machines
from interlock.drivers.ganeti import record as records
from interlock.drivers.ganeti.driver import GanetiDriver
from interlock.drivers.ganeti.machine import Machine
from interlock.drivers.ganeti.rapi import Rapi
from interlock.drivers.ganeti.seen import Seen
from interlock.errors import (
    CancelledError,
    DeadlineError,
    DriverError,
    HostError,
    NotFoundError,
    OutOfReachError,
    UsageError,
)
from interlock.fsm import looks
from interlock.fsm.engine import Engine
from interlock.fsm.port import Draft
from interlock.fsm.records import Effects
from interlock.fsm.spec import UNREADABLE
from interlock.fsm.table import Trigger
from interlock.guest import readiness
from interlock.host import cancellation
from interlock.host.files import remove_tree
from interlock.host.home import Home


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """Yield a function that starts a stand-in; all of them are closed at the end of the module."""
    made, usual = [], certify(tmp_path_factory.mktemp("rapi"))

    def start(place=usual):
        made.append(StandIn(place))
        return made[-1]

    yield start
    for one in made:
        one.close()


@pytest.fixture(autouse=True)
def standin(servers, home, tmp_path):
    """Return a new stand-in for a cluster, which the home knows as `west`."""
    made = servers()
    home.clusters.mkdir(parents=True, mode=0o700)
    (tmp_path / "store").mkdir()
    put(home, made, tmp_path)
    return made


def put(home, standin, tmp_path, **changes):
    """Write the record of the cluster `west`."""
    file = home.clusters / "west.yaml"
    file.touch(mode=0o600)
    record = {
        "url": standin.url,
        "certificate": standin.certificate,
        "user": USER,
        "secret": SECRET,
        "network": "guests",
        "dns": "192.0.2.53",
        "store": str(tmp_path / "store"),
        "store_on_nodes": "/srv/interlock",
    }
    file.write_text(json.dumps({key: value for key, value in {**record, **changes}.items() if value is not None}))


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """Wait for the stand-in long enough for a TLS handshake on a busy machine."""
    monkeypatch.setattr("interlock.drivers.ganeti.rapi._CONNECT_S", 300.0)


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    """Count each guest as ready as soon as it is asked, unless there is no time left."""

    def ready(_endpoint, deadline, _descriptor, report, *_, **__):
        report("not waiting")
        report("not waiting")
        if deadline.passed:
            raise DeadlineError("no time")
        return ()

    monkeypatch.setattr(readiness, "wait_until_ready", ready)
    monkeypatch.setattr(ganeti, "_GRACE_S", 0)
    monkeypatch.setattr(machines, "_UNDO_S", 0.0)


@pytest.fixture
def site(home, tmp_path):
    """Return a site with the files that the engine puts there before it calls `create`."""
    directory = home.directory("web")
    directory.mkdir(mode=0o700, parents=True)
    (directory / KERNEL).write_bytes(b"a kernel")
    (directory / INITRD).write_bytes(b"an initrd with a seed")
    spec = UNREADABLE._replace(
        driver="ganeti",
        arch="x86_64",
        cpus=1,
        memory_bytes=256 << 20,
        disk_bytes=1 << 30,
        user="ada",
        instance_id="i-1",
        boot="kernel",
        kernel_arguments="quiet",
        cluster="west",
        start_timeout_s=300.0,
        stop_timeout_s=300.0,
    )
    return Site("web", directory, tmp_path / "runtime" / "web", spec)


@pytest.fixture
def driver():
    """Return the driver."""
    return GanetiDriver()


@pytest.fixture
def machine(driver, site):
    """Return a machine that the cluster has created."""
    driver.create(site, print)
    return site


@pytest.fixture
def running(driver, machine):
    """Return a machine that runs."""
    driver.start(machine, print, Deadline(60))
    return machine


class TestContract(DriverConformance):
    """What every driver promises."""

    @pytest.fixture
    def driver(self, driver):
        return driver

    @pytest.fixture
    def site(self, site):
        return site


# -- the cluster's record ----------------------------------------------------------------------------------------------


def test_record_that_others_may_read_is_refused(home):
    """A record that others can read is refused; the hint fixes its mode."""
    (home.clusters / "west.yaml").chmod(0o640)
    with pytest.raises(HostError, match="can be read by others") as caught:
        clusters.read(home.root, "west")
    assert caught.value.hint.startswith("chmod 600 ")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"password": "x"}, "unknown key password"),
        ({"user": None, "secret": None}, "missing keys secret, user"),
        ({"url": "http://192.0.2.10:5080"}, "url must begin with https://"),
        ({"store_on_nodes": "interlock"}, "must be absolute"),
        ({"network": 5}, "network must be text"),
        ({"certificate": "none"}, "certificate is not a PEM certificate"),
    ],
)
def test_record_with_a_mistake_names_it(home, standin, tmp_path, driver, site, changes, words):
    """The error names the file and the key, and no request is sent."""
    put(home, standin, tmp_path, **changes)
    with pytest.raises(HostError, match=words) as caught:
        driver.create(site, print)
    assert "west.yaml" in caught.value.message
    assert standin.calls == []


def test_cluster_without_record_names_those_that_have_one(home):
    """An unknown cluster's error lists the known ones."""
    with pytest.raises(NotFoundError, match=r'no cluster "east" .* there is west'):
        clusters.read(home.root, "east")


def test_another_certificate_is_not_spoken_to(servers, home, tmp_path, driver, site, standin):
    """The secret is not sent to a server whose certificate is not the pinned one."""
    other = servers(certify(tmp_path))
    put(home, other, tmp_path, certificate=standin.certificate)
    with pytest.raises(DriverError, match=r"does not answer .* certificate verify failed"):
        driver.create(site, print)
    assert other.calls == []


def test_wrong_secret_is_said(home, standin, tmp_path, driver, site):
    """The error names a user whom the cluster does not accept."""
    put(home, standin, tmp_path, user="nobody")
    with pytest.raises(HostError, match='does not let user "nobody"'):
        driver.create(site, print)


def test_mark_of_a_home_that_two_make_at_once_is_the_first(home, monkeypatch):
    """The first mark stays: a machine with a replaced mark would belong to no home."""
    write, marks = clusters.write_whole, []

    def while_another_makes_one(path, content):
        monkeypatch.setattr(clusters, "write_whole", write)
        marks.append(clusters.home_mark(home.root))
        write(path, content)

    monkeypatch.setattr(clusters, "write_whole", while_another_makes_one)
    marks.append(clusters.home_mark(home.root))
    assert marks == [clusters.home_mark(home.root)] * 2
    assert sorted(file.name for file in home.clusters.iterdir()) == ["home", "west.yaml"]


# -- creation ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("machine")
def test_create_asks_for_the_machine_of_the_spec(standin, tmp_path):
    """Sizes, kernel, network and owner come from the spec; the boot files are in the store, readable by us alone."""
    made = standin.instances["web"]
    assert made["beparams"]["maxmem"] == 256
    assert made["disk.sizes"] == [1024]
    assert made["hvparams"]["initrd_path"] == "/srv/interlock/instances/i-1/initrd"
    address = made["nic.ips"][0]
    assert made["hvparams"]["kernel_args"] == f"quiet interlock.network={address}/24,192.0.2.1,192.0.2.53"
    assert "interlock:instance:i-1" in made["tags"]
    initrd = tmp_path / "store" / "instances" / "i-1" / "initrd"
    assert initrd.read_bytes() == b"an initrd with a seed"
    assert initrd.stat().st_mode & 0o077 == 0


def test_create_on_a_node_asks_for_that_node(standin, driver, site):
    """The node in the spec is asked for; without one, the cluster chooses."""
    driver.create(site._replace(spec=site.spec._replace(node="node3.example.test")), print)
    assert standin.jobs[1]["body"]["pnode"] == "node3.example.test"


def test_create_over_an_instance_of_another_touches_nothing(standin, driver, site):
    """A name that is taken in the cluster is refused, and our cleanup leaves the other instance alone."""
    standin.instances["web"] = {**RECORDED["instance"], "name": "web", "tags": ["theirs"]}
    with pytest.raises(DriverError, match='the cluster has an instance "web" already'):
        driver.create(site, print)
    driver.delete(site, print)
    assert standin.instances["web"]["tags"] == ["theirs"]


def test_create_without_room_says_so(standin, driver, site):
    """A creation that the allocator refuses leaves nothing in the cluster."""
    standin.fail("OP_INSTANCE_CREATE", "no_room")
    with pytest.raises(DriverError):
        driver.create(site, print)
    assert standin.instances == {}


def test_check_wants_a_cluster_and_one_place(driver, site):
    """A machine without a cluster, or with two places, is refused before anything is made."""
    with pytest.raises(UsageError, match="--cluster"):
        driver.check(site.spec._replace(cluster=""))
    with pytest.raises(UsageError, match="exclude each other"):
        driver.check(site.spec._replace(node="node1", group="rack1"))


def test_handing_over_can_be_called_off(driver, site, tmp_path):
    """Copying a large image to a slow store can be cancelled; the partial copy is removed."""
    (site.directory / KERNEL).write_bytes(b"\0" * (3 << 20))
    steps = []
    with (
        cancellation.calling_off(lambda: "enough" if "handing over to the nodes" in steps else None),
        pytest.raises(CancelledError),
    ):
        driver.create(site, steps.append)
    assert list((tmp_path / "store").rglob("*sha256*")) == []


def test_copy_that_is_killed_leaves_nothing_once_the_instance_is_deleted(driver, site, tmp_path, monkeypatch):
    """Other machines share complete copies; a partial one is removed with the instance."""

    def killed(fresh, _):
        os.link(fresh, fresh.with_name(f"{fresh.name}.left"))
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "publish", killed)
    with pytest.raises(KeyboardInterrupt):
        driver.create(site, print)
    driver.delete(site, print)
    assert [path for path in (tmp_path / "store").rglob("*") if path.is_file()] == []


# -- jobs --------------------------------------------------------------------------------------------------------------


def test_steps_of_a_job_are_reported_once(driver, site):
    """Each line of a job's log is reported as a step, once."""
    steps = []
    driver.create(site, steps.append)
    assert "creating instance disks" in steps
    assert len(steps) == len(set(steps))


def test_wait_for_a_guest_says_each_step_once(driver, machine):
    """The wait for readiness repeats its step at each attempt; it is reported once."""
    steps = []
    driver.start(machine, steps.append, Deadline(60))
    assert steps.count("not waiting") == 1


def test_job_left_by_a_dead_manager_is_awaited(standin, driver, machine):
    """If a start's process dies, the next start finds the job by its number and waits for it."""
    standin.hold("OP_INSTANCE_STARTUP")
    with pytest.raises(DeadlineError):
        driver.start(machine, print, Deadline(0))
    standin.release("OP_INSTANCE_STARTUP")
    steps = []
    driver.start(machine, steps.append, Deadline(60))
    assert [job["op"] for job in standin.jobs.values()].count("OP_INSTANCE_STARTUP") == 1
    assert any(step.startswith("waiting for job ") for step in steps)


def test_job_whose_number_nobody_noted_is_found_by_the_instance(standin, driver, machine):
    """If a process dies between request and answer, its unfinished job is found and has to end first."""
    standin.hold("OP_INSTANCE_STARTUP")
    with pytest.raises(DeadlineError):
        driver.start(machine, print, Deadline(0))
    number = records.read(machine).job
    records.write(machine, records.read(machine)._replace(job=records.ASKED))
    standin.release("OP_INSTANCE_STARTUP")
    driver.kill(machine, print)
    assert standin.jobs[number]["status"] == "success"
    assert standin.instances["web"]["status"] == "ADMIN_down"


def test_kill_calls_off_what_has_not_begun(standin, driver, machine, monkeypatch):
    """A job that is still queued is cancelled, so that the machine does not start after it was killed."""
    monkeypatch.setattr(standin, "_work", lambda _: None)
    with pytest.raises(DeadlineError):
        driver.start(machine, print, Deadline(0))
    number = records.read(machine).job
    driver.kill(machine, print)
    assert standin.jobs[number]["status"] == "canceled"
    assert records.read(machine).job == 0


def test_failed_job_says_why_in_the_clusters_words(standin, driver, machine):
    """The error has Ganeti's own message."""
    standin.fail("OP_INSTANCE_STARTUP", "missing")
    with pytest.raises(DriverError, match=r'cluster "west": Instance .* not known'):
        driver.start(machine, print, Deadline(60))


def test_start_and_stop_wait_for_an_earlier_job_until_their_deadline(standin, driver, running):
    """A job that does not end delays a caller no longer than the caller's deadline."""
    standin.hold("OP_INSTANCE_SHUTDOWN")
    for _ in range(2):
        with pytest.raises(DeadlineError, match="job 4 of the cluster did not end within"):
            driver.stop(running, print, Deadline(0))
    with pytest.raises(DeadlineError, match="job 4 of the cluster did not end within"):
        driver.start(running, print, Deadline(0))


def test_stop_without_a_deadline_stops(driver, running):
    """Ganeti needs a number of seconds even if there is no deadline."""
    assert driver.stop(running, print, Deadline(math.inf)) == "guest shut down"


def test_undoing_and_listing_leave_a_job_that_does_not_end(standin, driver, running):
    """Undoing and listing cannot be cancelled, so they give up; the next command finds the job in the record."""
    standin.hold("OP_INSTANCE_SHUTDOWN")
    with pytest.raises(DeadlineError):
        driver.stop(running, print, Deadline(0))
    with cancellation.shielded(), pytest.raises(DeadlineError):
        driver.kill(running, print)
    for act in (driver.observe, lambda site: driver.delete(site, print)):
        with looks.hurried(), pytest.raises(DeadlineError):
            act(running)
    assert driver.observe(running).alive is True
    standin.release("OP_INSTANCE_SHUTDOWN")
    with looks.hurried():
        assert driver.observe(running).alive is False
    assert records.read(running).job == 0


@pytest.mark.parametrize(("status", "content"), [(502, b"<html>bad gateway</html>"), (200, b""), (200, b"null")])
def test_job_that_may_have_been_received_is_not_forgotten(standin, driver, machine, status, content):
    """Without a readable job number the job may exist: the next command looks for it, and finds it."""
    standin.hold("OP_INSTANCE_STARTUP")
    standin.garble("PUT", status, content)
    with pytest.raises(DriverError, match='cluster "west"'):
        driver.start(machine, print, Deadline(60))
    assert records.read(machine).job == records.ASKED
    standin.garble("PUT")
    standin.jobs[max(standin.jobs)]["status"] = "running"
    standin.release("OP_INSTANCE_STARTUP")
    driver.start(machine, print, Deadline(60))
    assert [job["op"] for job in standin.jobs.values()].count("OP_INSTANCE_STARTUP") == 1


def test_job_whose_request_is_cut_off_is_not_forgotten(machine, monkeypatch):
    """A signal in the middle of the request leaves a note that a job may exist."""

    def cut_off(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Rapi, "ask", cut_off)
    with pytest.raises(KeyboardInterrupt), Machine(machine, "west") as one:
        one.act("PUT", "startup")
    assert records.read(machine).job == records.ASKED


def test_job_that_is_refused_is_no_job(standin, driver, machine):
    """A refused request leaves no job to wait for."""
    standin.garble("PUT", 400, b'{"code": 400, "message": "Bad Request", "explain": "no such parameter"}')
    with pytest.raises(DriverError, match="Bad Request"):
        driver.start(machine, print, Deadline(60))
    assert records.read(machine).job == 0


# -- nodes -------------------------------------------------------------------------------------------------------------


def test_migrate_of_a_machine_that_runs_is_live(standin, driver, running):
    """A running machine is moved live to the given node, and the result names that node."""
    assert driver.migrate(running, print, Deadline(60), node="node2.example.test") == "to node2.example.test"
    assert standin.instances["web"]["status"] == "running"
    assert [job["op"] for job in standin.jobs.values()][-1] == "OP_INSTANCE_MIGRATE"


def test_migrate_of_a_machine_at_rest_moves_it(standin, driver, machine):
    """A machine that is down has no memory to move, and stays down."""
    driver.migrate(machine, print, Deadline(60), node="node2.example.test")
    assert standin.instances["web"]["pnode"] == "node2.example.test"
    assert driver.observe(machine).alive is False


def test_migrate_to_the_node_that_has_it_does_nothing(standin, driver, running):
    """The cluster is not asked for a job."""
    before = len(standin.jobs)
    node = standin.instances["web"]["pnode"]
    assert driver.migrate(running, print, Deadline(60), node=node) == f"on {node} already"
    assert len(standin.jobs) == before


def test_failover_from_a_node_that_answers_is_live(standin, driver, running):
    """A mistaken belief that the node is down reboots nothing and sets no node offline."""
    driver.migrate(running, print, Deadline(60), node="node2.example.test", failover=True)
    assert [job["op"] for job in standin.jobs.values()][-1] == "OP_INSTANCE_MIGRATE"
    assert "OP_NODE_SET_PARAMS" not in [job["op"] for job in standin.jobs.values()]


def test_failover_to_the_node_that_is_down_is_refused(standin, driver, running):
    """A failover to the node that is down cannot help."""
    node = standin.instances["web"]["pnode"]
    standin.down(node)
    with pytest.raises(OutOfReachError, match="is unreachable"):
        driver.migrate(running, print, Deadline(60), node=node, failover=True)
    assert "OP_NODE_SET_PARAMS" not in [job["op"] for job in standin.jobs.values()]


def test_failover_leads_out_of_a_node_that_is_down(standin, driver, running):
    """A plain move is refused with a hint at failover, which boots the guest elsewhere and waits for it."""
    standin.down(standin.instances["web"]["pnode"])
    with pytest.raises(OutOfReachError, match="is unreachable") as caught:
        driver.migrate(running, print, Deadline(60))
    assert caught.value.hint == "interlock cluster failover web"
    steps = []
    assert driver.migrate(running, steps.append, Deadline(60), failover=True) == "to node1.example.test"
    assert standin.calls.count(("PUT", "/2/nodes/node3.example.test/role")) == 1
    assert "waiting for the guest" in steps


def test_nodes_say_which_of_them_answers(driver, home):
    """A node that does not answer is listed without its memory, which is unknown."""
    nodes = {node.name: node for node in driver.nodes(home.root, "west")}
    assert [node.up for node in nodes.values()] == [True, True, False]
    down = nodes["node3.example.test"]
    assert (down.group, down.memory_bytes) == ("default", None)
    assert nodes["node1.example.test"].memory_bytes > 0


# -- what is seen ------------------------------------------------------------------------------------------------------


def test_instance_on_a_node_that_is_down_is_unreachable(standin, driver, running):
    """It is unknown whether the machine runs: the error names the node, and nothing is done to the machine."""
    standin.down(standin.instances["web"]["pnode"])
    seen = driver.observe(running)
    assert (seen.alive, seen.node) == (None, standin.instances["web"]["pnode"])
    for act in (lambda site: driver.kill(site, print), lambda site: driver.delete(site, print)):
        with pytest.raises(OutOfReachError, match=r"is unreachable: its node node\d\.example\.test does not answer"):
            act(running)
    assert "web" in standin.instances


@pytest.mark.parametrize(("status", "content"), [(404, b"no such page"), (200, b""), (200, b"null"), (500, b"{}")])
@pytest.mark.parametrize("listing", [None, {}])
def test_answer_that_is_not_from_rapi_is_no_death(standin, driver, running, status, content, listing):
    """A proxy's "not found" does not mean that the machine is gone."""
    standin.garble("GET", status, content)
    with looks.shared(listing), pytest.raises(DriverError, match='cluster "west"'):
        driver.observe(running)


def test_status_that_nobody_knows_is_no_death(standin, driver, running):
    """A newer Ganeti may have more statuses."""
    standin.instances["web"]["status"] = "ERROR_new"
    seen = driver.observe(running)
    assert (seen.alive, 'the cluster gives it the status "ERROR_new"' in seen.condition) == (None, True)


def test_machine_that_is_gone_from_the_cluster_is_down(standin, driver, running):
    """A machine that was removed in the cluster is shown as down with that reason, and can be deleted here."""
    standin.instances.clear()
    seen = driver.observe(running)
    assert seen.alive is False
    assert seen.exit_reason == 'the cluster "west" no longer has it'
    driver.delete(running, print)


@pytest.mark.parametrize("listing", [None, {}])
def test_machine_that_was_renamed_in_the_cluster_is_found_by_its_tag(standin, driver, running, listing):
    """It is observed, stopped and deleted under its new name."""
    standin.instances["www"] = standin.instances.pop("web") | {"name": "www"}
    with looks.shared(listing):
        assert driver.observe(running).alive is True
    driver.stop(running, print, Deadline(60))
    assert records.read(running).instance == "www"
    driver.delete(running, print)
    assert standin.instances == {}


def test_rename_that_is_cut_short_loses_no_machine(standin, driver, machine):
    """The job finishes in the cluster; afterwards the machine starts and is removed as before."""
    standin.hold("OP_INSTANCE_RENAME")
    with Machine(machine, "west") as one, pytest.raises(DeadlineError):
        one.act("PUT", "rename", {"new_name": "www"}, deadline=Deadline(0))
    standin.release("OP_INSTANCE_RENAME")
    driver.start(machine, print, Deadline(60))
    assert standin.instances["www"]["status"] == "running"
    driver.kill(machine, print)
    driver.delete(machine, print)
    assert standin.instances == {}


def test_machine_that_another_home_has_taken_over_is_left_to_it(standin, driver, running, tmp_path):
    """The instance's tags name its home: here it counts as down, cannot be started, and `delete` does not touch it."""
    tags = standin.instances["web"]["tags"]
    standin.instances["web"]["tags"] = [tag if "home" not in tag else "interlock:home:another" for tag in tags]
    seen = driver.observe(running)
    assert (seen.alive, seen.exit_reason) == (False, "another home has taken it over")
    with pytest.raises(HostError, match="does not belong to this home any more") as caught:
        driver.start(running, print, Deadline(60))
    assert caught.value.hint == "interlock delete web"
    driver.delete(running, print)
    assert standin.instances["web"]["status"] == "running"
    assert (tmp_path / "store" / "instances" / "i-1" / "initrd").exists()


def test_cluster_that_does_not_answer_is_an_error_not_a_death(home, standin, tmp_path, driver, running):
    """If the cluster does not answer, it is unknown whether the machine runs."""
    put(home, standin, tmp_path, url="https://127.0.0.1:1")
    with pytest.raises(DriverError, match=r'cluster "west" does not answer at https://127\.0\.0\.1:1'):
        driver.observe(running)


def test_reason_of_an_earlier_run_is_not_that_of_a_later_one(standin, driver, running):
    """After a start and stop in the cluster, our recorded reason no longer counts, but the cluster's own does."""
    assert driver.stop(running, print, Deadline(60)) == "guest shut down"
    assert driver.observe(running).exit_reason == "guest shut down"
    standin.instances["web"]["serial_no"] += 2
    assert driver.observe(running).exit_reason == "stopped in the cluster"


@pytest.mark.parametrize("content", ["", "{}", '{"cluster": "west"', "[]"])
def test_record_that_is_damaged_is_made_again(standin, driver, running, content):
    """A damaged record is rebuilt from the spec's cluster and the instance's tag."""
    config = driver.ssh_config(running).read_text()
    (running.directory / records.RECORD).write_text(content)
    assert driver.observe(running).alive is True
    assert driver.ssh_config(running).read_text() == config
    driver.stop(running, print, Deadline(60))
    found = records.read(running)
    assert (found.instance, found.address, found.job) == ("web", standin.instances["web"]["nic.ips"][0], 0)
    driver.delete(running, print)
    assert standin.instances == {}


def test_machine_of_a_cluster_whose_record_is_gone_can_be_forgotten(home, standin, driver, running):
    """The error names the missing record, and the hint's command forgets the instance here."""
    (home.clusters / "west.yaml").unlink()
    for act in (driver.observe, lambda site: driver.kill(site, print), lambda site: driver.delete(site, print)):
        with pytest.raises(
            HostError, match='"web" runs on the cluster "west", but there is no cluster "west"'
        ) as caught:
            act(running)
    remove, _, then = caught.value.hint.partition(" && ")
    assert then == "interlock delete --force web"
    subprocess.run(remove.split(), check=True)
    assert driver.observe(running).alive is False
    driver.delete(running, print)
    assert "web" in standin.instances


def test_listing_asks_the_cluster_once(standin, driver, home, site):
    """One call lists all instances; before a decision, a machine is looked up by itself."""
    remove_tree(site.directory)
    engine = Engine(home, lambda _: driver)
    for name in ("web", "db", "mail"):
        spec = site.spec._replace(instance_id=f"i-{name}")
        engine.create(name, lambda _, spec=spec: Draft(spec, {KERNEL: b"a kernel", INITRD: b"a seed"}))
    standin.calls.clear()
    assert [status.observation.alive for status in engine.statuses()] == [False, False, False]
    assert standin.calls == [("GET", "/2/instances")]
    standin.instances["db"] |= {"status": "running", "admin_state": "up"}
    assert [status.state for status in engine.statuses()] == ["running", "created", "created"]


def test_sizes_that_were_edited_come_with_the_next_start(standin, driver, machine):
    """A start applies the memory and processors of the current spec."""
    driver.start(machine._replace(spec=machine.spec._replace(memory_bytes=512 << 20, cpus=2)), print, Deadline(60))
    assert standin.instances["web"]["beparams"]["maxmem"] == 512
    assert standin.instances["web"]["beparams"]["vcpus"] == 2


def test_dry_run_refuses_to_grow_a_disk_in_use_as_the_work_does(driver, running):
    """Both give the same error and hint; a machine that is down can grow."""
    larger = running.spec._replace(disk_bytes=2 << 30)

    def foreseen():
        return driver.foresee(running, Trigger.edit, {"change": lambda _: larger})

    for act in (foreseen, lambda: driver.grow(running._replace(spec=larger), print)):
        with pytest.raises(DriverError, match="can grow only the disk of a stopped machine") as caught:
            act()
        assert caught.value.hint == "interlock stop web"
    driver.stop(running, print, Deadline(60))
    assert foreseen() == Effects()


def test_start_does_not_wait_for_a_look_that_has_no_answer(driver, machine, monkeypatch):
    """During the wait for the guest, a second connection observes the machine, with a limit on its answers."""
    patience = []

    class Connection(Rapi):
        def __init__(self, cluster, root, answer_s=math.inf):
            patience.append(answer_s)
            super().__init__(cluster, root, answer_s)

    monkeypatch.setattr(guest, "Rapi", Connection)
    driver.start(machine, print, Deadline(60))
    assert patience == [guest._ANSWER_S]


def test_delete_takes_back_what_was_handed_over(standin, driver, machine, tmp_path):
    """The seed is removed from the store; files that other machines may share stay."""
    driver.delete(machine, print)
    assert standin.instances == {}
    assert list((tmp_path / "store" / "instances").iterdir()) == []
    assert len(list((tmp_path / "store" / "blobs").iterdir())) == 1


# -- adoption ----------------------------------------------------------------------------------------------------------

MATERIALS = {KERNEL: b"a kernel", INITRD: b"a seed", SSH_KEY: b"a key", KNOWN_HOSTS: b"a host key"}


class Dead(BaseException):
    """The process is killed here."""


@pytest.fixture
def elsewhere(home, standin, tmp_path):
    """Return a function that makes another home with a record of the cluster."""

    def make(name):
        made = Home(root=tmp_path / name, runtime=home.runtime)
        made.clusters.mkdir(parents=True, mode=0o700)
        put(made, standin, tmp_path)
        return Interlock(made.root)

    return make


@pytest.fixture
def vms(home, site):
    """Return the API on this home, which has the running instance `web` in the cluster."""
    remove_tree(site.directory)
    vms = Interlock(home.root)
    vms.engine.create("web", lambda _: Draft(site.spec, MATERIALS))
    vms.start("web")
    return vms


def owners(standin, *homes):
    """Return those of `homes` that may act on `web`, by what the cluster says."""
    home = Seen.of(standin.instances["web"]).home
    return [one for one in homes if clusters.home_mark(one.home.root) == home]


def test_instance_of_a_lost_home_is_adopted_while_it_runs(standin, vms, elsewhere):
    """The new home has the spec and the keys, finds it running, and stops and deletes it; the old one only loses it."""
    other = elsewhere("other")
    assert list(other.adoptable(cluster="west")) == ["web"]
    assert vms.adoptable(cluster="west") == {}

    other.adopt("web", cluster="west")

    assert other.status("web").state == "running"
    assert other.status("web").spec == vms.status("web").spec
    assert (other.home.directory("web") / SSH_KEY).read_bytes() == b"a key"
    assert vms.status("web").state == "stopped"
    assert [*vms.history("web")][-1].reason == "another home has taken it over"
    with pytest.raises(HostError, match="does not belong to this home any more"):
        vms.start("web")
    vms.delete("web")
    assert standin.instances["web"]["status"] == "running"
    other.stop("web")
    other.delete("web")
    assert standin.instances == {}


def test_instance_comes_back_to_a_home_that_lost_it(standin, vms, elsewhere):
    """Adopted there and back again, it belongs to the first home, which may act on it."""
    other = elsewhere("other")
    other.adopt("web", cluster="west")
    vms.delete("web")
    vms.adopt("web", cluster="west")
    assert owners(standin, vms, other) == [vms]
    vms.stop("web")
    assert "belongs to another home" in other.status("web").observation.condition
    other.delete("web")
    assert vms.status("web").state == "stopped"


def test_of_two_homes_that_adopt_at_once_one_succeeds(standin, vms, elsewhere, monkeypatch):
    """Both have claimed the instance when the first one removes the claim of its former home: the cluster decides."""
    first, second = elsewhere("first"), elsewhere("second")
    act, between = Machine.act, []

    def slowly(machine, method, what, *rest, **options):
        if method == "DELETE" and not between:
            between.append(machine.root)
            second.adopt("web", cluster="west")
        return act(machine, method, what, *rest, **options)

    monkeypatch.setattr(Machine, "act", slowly)
    with pytest.raises(HostError, match="changed hands") as caught:
        first.adopt("web", cluster="west")
    assert caught.value.hint == "interlock adopt --cluster west web"
    assert owners(standin, vms, first, second) == [second]
    assert first.home.names() == []
    assert len([tag for tag in standin.instances["web"]["tags"] if tag.startswith("interlock:home:")]) == 1


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("nth", [1, 2])
def test_adoption_that_is_killed_anywhere_leaves_one_owner(standin, vms, elsewhere, monkeypatch, nth, before):
    """The instance runs on and belongs to one home; the next command undoes the adoption, which then succeeds."""
    other, act, calls = elsewhere("other"), Machine.act, []

    def mortal(machine, *rest, **options):
        calls.append(rest)
        if len(calls) > nth or (len(calls) == nth and before):
            raise Dead
        done = act(machine, *rest, **options)
        if len(calls) == nth:
            raise Dead
        return done

    monkeypatch.setattr(Machine, "act", mortal)
    with pytest.raises(Dead):
        other.adopt("web", cluster="west")
    assert len(owners(standin, vms, other)) == 1
    assert other.home.names() == []
    monkeypatch.setattr(Machine, "act", act)

    with pytest.raises(NotFoundError):
        other.stop("web")

    assert owners(standin, vms, other) == [vms]
    assert len([tag for tag in standin.instances["web"]["tags"] if tag.startswith("interlock:home:")]) == 1
    assert vms.status("web").state == "running"
    other.adopt("web", cluster="west")
    assert owners(standin, vms, other) == [other]
    assert standin.instances["web"]["status"] == "running"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (remove_tree, "has left no keys in the store"),
        (lambda kept: (kept / "spec.json").unlink(), "has left no keys in the store"),
        (lambda kept: (kept / "spec.json").write_text("{"), "cannot be used: Expecting"),
        (
            lambda kept: (kept / "spec.json").write_text((kept / "spec.json").read_text().replace('"i-1"', '"i-2"')),
            "cannot be used: it is that of 'i-2'",
        ),
    ],
)
@pytest.mark.usefixtures("vms")
def test_instance_whose_home_left_too_little_is_not_adopted(standin, elsewhere, tmp_path, damage, words):
    """The error says what is missing; nothing is made, and the cluster is not asked for a job."""
    damage(tmp_path / "store" / "instances" / "i-1" / "home")
    other, jobs = elsewhere("other"), len(standin.jobs)
    with pytest.raises(HostError, match=words):
        other.adopt("web", cluster="west")
    assert (len(standin.jobs), other.home.names()) == (jobs, [])


def test_tag_does_not_lead_out_of_the_store(standin, vms, elsewhere, tmp_path):
    """Every user of the cluster can set any tag: its words are not used as a path."""
    kept = tmp_path / "store" / "instances" / "i-1" / "home"
    shutil.copytree(kept, tmp_path / "store" / "home")
    tags = standin.instances["web"]["tags"]
    standin.instances["web"]["tags"] = [tag.replace("instance:i-1", "instance:..") for tag in tags]
    other = elsewhere("other")
    with pytest.raises(HostError, match=r"'\.\.' is not the id of an instance"):
        other.adopt("web", cluster="west")
    assert other.home.names() == []
    assert vms.status("web").observation.condition == "`interlock delete web` removes what is left of it here"


def test_start_leaves_the_edited_spec_for_who_adopts(vms, elsewhere, tmp_path):
    """The store has the spec of the last start, and a start makes up for what an older version did not leave."""
    vms.stop("web")
    vms.edit("web", "memory=512MiB")
    remove_tree(tmp_path / "store" / "instances" / "i-1" / "home")
    vms.start("web")
    other = elsewhere("other")
    other.adopt("web", cluster="west")
    assert other.status("web").spec.memory_bytes == 512 << 20


def test_store_that_is_gone_does_not_keep_a_machine_from_starting(vms, tmp_path):
    """The step says what could not be done; nothing is written where the store is not mounted."""
    vms.stop("web")
    (tmp_path / "store").rename(tmp_path / "away")
    events = []
    vms.start("web", on_event=events.append)
    assert any("no other home could adopt it: " in str(event) for event in events)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("tags", "owner"),
    [
        ({"interlock:home:b", "interlock:home:a:1"}, "b"),
        ({"interlock:home:b:2", "interlock:home:c:10"}, "b"),
        ({"interlock:home:b:1", "interlock:home:a:1", "other"}, "a"),
        ({"interlock:instance:i-1"}, ""),
    ],
)
def test_lowest_claim_counts(tags, owner):
    """By its turn, then by its mark; a claim without a turn was made by the home that created the instance."""
    assert Seen.of({"tags": list(tags)}).home == owner


# -- commands ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("vms")
def test_adopt_wants_names_for_a_cluster(elsewhere, monkeypatch):
    """Taking everything from another home is never the default; the error lists what there is."""
    other = elsewhere("other")
    monkeypatch.setenv("INTERLOCK_HOME", str(other.home.root))
    done = run("adopt", "--cluster", "west")
    assert (done.returncode, other.home.names()) == (2, [])
    assert 'cluster "west": give the names of those to adopt' in done.stderr
    assert "hint: interlock adopt --cluster west web\n" in done.stderr
    done = run("adopt", "--cluster", "west", "mail")
    assert 'no other home has an instance "mail" in cluster "west"' in done.stderr
    assert [one["state"] for one in interlock("adopt", "--cluster", "west", "web")] == ["created"]
    assert [one["state"] for one in interlock("list")] == ["running"]


def run(*words):
    """Run the program and return the completed process with its output."""
    command = [sys.executable, "-m", "interlock", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, stdin=subprocess.DEVNULL)


def interlock(*words):
    """Return the records that the program printed, checked against the contract; it must exit with 0."""
    done = run(*words, "--format", "json")
    assert done.returncode == 0, done.stderr
    check_printed([*words, "--format", "json"], done.stdout)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_cluster_nodes_prints_each_node():
    """The nodes of every cluster that has a record are printed in the documented form."""
    assert [(node["cluster"], node["up"]) for node in interlock("cluster", "nodes")] == [
        ("west", True),
        ("west", True),
        ("west", False),
    ]


def test_cluster_nodes_goes_on_where_a_cluster_is_silent(home):
    """The nodes of the other clusters are printed, and the error names the silent one."""
    record = json.loads((home.clusters / "west.yaml").read_text())
    silent = home.clusters / "east.yaml"
    silent.touch(mode=0o600)
    silent.write_text(json.dumps(record | {"url": "https://127.0.0.1:1"}))
    done = run("cluster", "nodes")
    assert (done.returncode, done.stdout.count(".example.test")) == (6, 3)
    assert 'cluster "east" does not answer' in done.stderr


def test_cluster_evacuate_moves_what_this_home_has_on_the_node(standin, driver, home, site):
    """Instances of this home leave the node; those of other homes stay."""
    remove_tree(site.directory)
    engine = Engine(home, lambda _: driver)
    for name, node in (("web", "node3.example.test"), ("db", "node2.example.test")):
        spec = site.spec._replace(instance_id=f"i-{name}", node=node)
        engine.create(name, lambda _, spec=spec: Draft(spec, {KERNEL: b"a kernel", INITRD: b"a seed"}))
    standin.instances["theirs"] = {**RECORDED["instance"], "name": "theirs", "pnode": "node3.example.test", "tags": []}
    moved = interlock("cluster", "evacuate", "west", "node3.example.test")
    assert [(one["name"], one["detail"]) for one in moved] == [("web", "to node1.example.test")]
    assert standin.instances["theirs"]["pnode"] == "node3.example.test"
    assert [one["node"] for one in interlock("list")] == ["node2.example.test", "node1.example.test"]
