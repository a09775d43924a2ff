"""A stand-in for limactl: makes the files, prints the lines and returns the exit codes that `recorded.json` has.

Its machines are two processes each, as the real one's are: a host agent that serves ha.sock, writes the events and ends
with the machine, and a hypervisor that only sleeps. Both have the folder's path in their arguments. What goes wrong is
said by a file in the instance's folder:

    slow        the guest does not answer
    degraded    something fails in the guest, which answers
    deaf        the guest does not shut down
    dying       the hypervisor ends at once

The program in place of a guest is this host's: ssh.config names a port at which nobody listens.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

RECORDED = json.loads(Path(__file__).with_name("recorded.json").read_text(encoding="utf-8"))
HOME = Path(os.path.realpath(os.environ["LIMA_HOME"]))
TEMPORARY = (".pid", ".sock", ".tmp")
PORT = 60022


def main(words):
    if words == ["--version"]:
        print(RECORDED["version"])
        return 0
    if words == ["list", "--json"]:
        return listed()
    assert words[:2] == ["--log-format", "json"], f"not a call that the driver makes: {words}"
    verb, *rest = words[2:]
    options = [word for word in rest if word.startswith("-") and word != "-"]
    names = [word for word in rest if word not in options]
    if verb == "hostagent":
        return host_agent(rest)
    return {"create": create, "start": start, "stop": stop, "delete": delete, "factory-reset": reset, "edit": edit}[
        verb
    ](names, options)


def create(names, options):
    name = names[0]
    assert names == [name, "-"], names
    assert options == ["--name", "--tty=false"], options
    place = HOME / name
    if (place / "lima.yaml").exists():
        return say("create_exists", place)
    (HOME / "_config").mkdir(parents=True, exist_ok=True)
    place.mkdir()
    (place / "lima.yaml").write_text(sys.stdin.read().rstrip("\n"), encoding="utf-8")
    (place / "lima-version").write_text(RECORDED["version"].split()[-1], encoding="utf-8")
    for file in ("basedisk", "diffdisk"):
        (place / file).write_text("fresh", encoding="utf-8")
    if "missing.qcow2" in (place / "lima.yaml").read_text(encoding="utf-8"):
        return say("create_no_image", place)
    return say("create", place)


def start(names, options):
    place = HOME / names[0]
    assert "--tty=false" in options, options
    if not (place / "lima.yaml").exists():
        assert not Path(os.environ["LIMA_TEMPLATES_PATH"]).exists()
        return say("start_absent", place)
    agent, hypervisor = running(place)
    if agent and hypervisor:
        return say("start_running", place)
    if agent or hypervisor:
        return say("start_broken", place)
    for file in ("ha.stdout.log", "ha.stderr.log"):
        (place / file).unlink(missing_ok=True)
    for file in ("basedisk", "diffdisk"):
        (place / file).touch()
    socket_path, pid_file = place / "ha.sock", place / "ha.pid"
    words = ["hostagent", "--pidfile", pid_file, "--socket", socket_path, place.name]
    subprocess.Popen(
        [sys.executable, __file__, "--log-format", "json", *words],
        stdout=(place / "ha.stdout.log").open("w"),
        stderr=(place / "ha.stderr.log").open("w"),
        stdin=subprocess.DEVNULL,
        process_group=0,
    )
    emit("start", place, 0)
    while True:
        text = read(place / "ha.stdout.log")
        if '"exiting":true' in text:
            return say("start_fails", place)
        if '"degraded":true' in text:
            return say("start_degraded", place)
        if '"running":true' in text:
            return say("start", place, 1)
        time.sleep(0.01)


def stop(names, options):
    place = HOME / names[0]
    if not (place / "lima.yaml").exists():
        return say("stop_absent", place)
    agent, hypervisor = running(place)
    if options in (["--force"], ["-f"]):
        kill(place, agent, hypervisor)
        return say("stop_force", place)
    if not (agent and hypervisor):
        return say("stop_broken" if agent or hypervisor else "stop_stopped", place)
    os.kill(agent, signal.SIGINT)
    emit("stop", place, 0)
    while any(running(place)):
        time.sleep(0.01)
    return say("stop", place, 1)


def delete(names, options):
    place = HOME / names[0]
    if not (place / "lima.yaml").exists():
        return say("delete_absent", place)
    if (place / "protected").exists():
        return say("delete_protected", place)
    agent, hypervisor = running(place)
    if options != ["--force"] and (agent or hypervisor):
        return say("delete_running", place)
    kill(place, agent, hypervisor)
    shutil.rmtree(place)
    return say("delete", place)


def reset(names, _):
    place = HOME / names[0]
    kill(place, *running(place))
    for path in place.iterdir():
        if path.name not in ("lima-version", "protected", "vz-identifier") and path.suffix not in (".yaml", ".yml"):
            path.unlink()
    return say("factory_reset", place)


def edit(names, options):
    place = HOME / names[0]
    if any(running(place)):
        return say("edit_running", place)
    with (place / "lima.yaml").open("a", encoding="utf-8") as file:
        file.write(f"\n# {options} {names[1:]}")
    return say("edit", place)


def listed():
    for place in sorted(HOME.iterdir()):
        if (place / "lima.yaml").exists():
            agent, hypervisor = running(place)
            status = "Running" if agent and hypervisor else "Broken" if agent or hypervisor else "Stopped"
            data = with_names(RECORDED["list"], place) | {"status": status}
            if "unreadable" in read(place / "lima.yaml"):
                data = {"name": place.name, "status": "", "dir": str(place), "errors": [{}]}
            print(json.dumps(data, separators=(",", ":")))
    return 0


def host_agent(words):
    place = Path(words[words.index("--pidfile") + 1]).parent
    (place / "ha.pid").write_text(f"{os.getpid()}\n", encoding="utf-8")
    asked = []
    signal.signal(signal.SIGINT, lambda *_: asked.append(True))
    api = socket.socket(socket.AF_UNIX)
    (place / "ha.sock").unlink(missing_ok=True)
    api.bind(str(place / "ha.sock"))
    api.listen()
    event({"sshLocalPort": PORT})
    (place / "ssh.config").write_text(filled("ssh_config", place), encoding="utf-8")
    seconds = 0 if (place / "dying").exists() else 3600
    command = f'echo $$ >"$1.new"; mv "$1.new" "$1"; exec -a "qemu-system-x86_64 -pidfile $1" sleep {seconds}'
    machine = subprocess.Popen(["bash", "-c", command, "bash", str(place / "qemu.pid")], process_group=0)
    while machine.poll() is None and not (place / "qemu.pid").exists():
        time.sleep(0.001)  # the real one says that it runs only after its hypervisor has written this
    said = False
    while machine.poll() is None:
        if not said and not any((place / word).exists() for word in ("slow", "dying")):
            said = True
            degraded = (place / "degraded").exists()
            event(RECORDED["degraded"] if degraded else {"running": True, "sshLocalPort": PORT})
        if asked and not (place / "deaf").exists():
            machine.terminate()
            machine.wait()
        time.sleep(0.01)
    for line in RECORDED["host_agent_stopped" if asked else "host_agent_died"]:
        print(json.dumps(line), file=sys.stderr, flush=True)
    event({"exiting": True})
    for path in place.iterdir():
        if path.suffix in TEMPORARY:
            path.unlink()
    return 0


def event(status):
    print(json.dumps({"time": "2026-11-29T10:00:00Z", "status": status}, separators=(",", ":")), flush=True)


def running(place):
    """Return the pids of host agent and hypervisor, or 0, as the real one does: any process with the number counts."""
    return [pid_of(place / name) for name in ("ha.pid", "qemu.pid")]


def pid_of(path):
    try:
        pid = int(path.read_text(encoding="utf-8"))
        os.kill(pid, 0)
    except (FileNotFoundError, ProcessLookupError, ValueError):
        path.unlink(missing_ok=True)
        return 0
    return pid


def kill(place, agent, hypervisor):
    for pid in (hypervisor, agent):
        if pid:
            os.kill(pid, signal.SIGKILL)
    for path in place.iterdir():
        if path.suffix in TEMPORARY:
            path.unlink()


def say(what, place, part=0):
    """Print what the real one said of `what`, and return its exit code."""
    emit(what, place, part)
    return RECORDED["calls"][what]["status"]


def emit(what, place, part):
    for line in RECORDED["calls"][what]["stderr"][part]:
        print(json.dumps(with_names(line, place)), file=sys.stderr, flush=True)


def filled(what, place):
    return "\n".join(with_names(line, place) for line in RECORDED[what]) + "\n"


def with_names(value, place):
    if isinstance(value, dict):
        return {key: with_names(inner, place) for key, inner in value.items()}
    if isinstance(value, str):
        return value.replace("DIR", str(place)).replace("HOME", str(HOME)).replace("NAME", place.name)
    return value


def read(path):
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
