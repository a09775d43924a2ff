"""A stand-in for a cluster: a server that answers like RAPI, as recorded in `recorded.json`, over TLS.

Its instances are records, and a job ends as soon as it is looked at. A test can change that:

    standin.hold(OP)        jobs of that kind begin but do not end until `release`
    standin.fail(OP, KEY)   jobs of that kind end with the recorded error KEY
    standin.garble(M, S, C) requests with the method M are carried out, but answered with status S and content C
    standin.down(NODE)      the node does not answer
    standin.instances       the cluster's instances, as RAPI describes them

The answers of a real cluster were recorded with tests/cluster/record.py.
"""

import base64
import copy
import json
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

RECORDED = json.loads(Path(__file__).with_name("recorded.json").read_text(encoding="utf-8"))

USER, SECRET = "interlock", "s3cret"

_OPS = {
    ("POST", ""): "OP_INSTANCE_CREATE",
    ("DELETE", "/"): "OP_INSTANCE_REMOVE",
    ("PUT", "startup"): "OP_INSTANCE_STARTUP",
    ("PUT", "shutdown"): "OP_INSTANCE_SHUTDOWN",
    ("PUT", "modify"): "OP_INSTANCE_SET_PARAMS",
    ("PUT", "rename"): "OP_INSTANCE_RENAME",
    ("PUT", "migrate"): "OP_INSTANCE_MIGRATE",
    ("PUT", "failover"): "OP_INSTANCE_FAILOVER",
    ("POST", "reinstall"): "OP_INSTANCE_REINSTALL",
    ("POST", "disk/0/grow"): "OP_INSTANCE_GROW_DISK",
    ("PUT", "tags"): "OP_TAGS_SET",
    ("DELETE", "tags"): "OP_TAGS_DEL",
}

_ABOUT = {"OP_TAGS_SET": "name", "OP_TAGS_DEL": "name"}
"""Where a job says which instance it is about, if not in `instance_name`."""


def certify(place: Path) -> Path:
    """Make a key and a certificate in the folder `place`, and return the folder."""
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", place / "rapi.key"]
    command = ["openssl", "req", "-x509", "-days", "2", "-subj", "/CN=cluster.example.test", *key]
    subprocess.run([*command, "-out", place / "rapi.crt"], check=True, capture_output=True)
    return place


class StandIn:
    """The cluster: its instances and jobs, and the orders of the test."""

    def __init__(self, place: Path) -> None:
        """Start serving, with the key and the certificate that `certify` made in the folder `place`."""
        self.instances: dict[str, dict] = {}
        self.jobs: dict[int, dict] = {}
        self.calls: list[tuple[str, str]] = []
        """Each request: method and path."""
        self._held: set[str] = set()
        self._failing: dict[str, str] = {}
        self._garbled: dict[str, tuple[int, bytes]] = {}
        self._lock = threading.RLock()
        key, certificate = place / "rapi.key", place / "rapi.crt"
        self.certificate = certificate.read_text()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        standin = self

        class Handler(BaseHTTPRequestHandler):
            def do(self) -> None:
                standin._serve(self)

            do_GET = do_PUT = do_POST = do_DELETE = do  # noqa: N815 - as http.server wants it

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()

    def hold(self, op: str) -> None:
        """Make jobs of the kind `op` begin but not end."""
        self._held.add(op)

    def release(self, op: str) -> None:
        """Let jobs of the kind `op` end again."""
        self._held.discard(op)

    def fail(self, op: str, key: str) -> None:
        """Make jobs of the kind `op` end with the recorded error `key`."""
        self._failing[op] = key

    def garble(self, method: str, status: int = 0, content: bytes = b"") -> None:
        """Answer requests with `method` with `status` and `content`, whatever they did; a status of 0 ends this."""
        self._garbled[method] = (status, content)

    def down(self, node: str) -> None:
        """Show the instances of `node` as on a node that does not answer."""
        for instance in self.instances.values():
            if instance["pnode"] == node:
                instance["status"], instance["oper_state"] = "ERROR_nodedown", None

    # -- serving ----------------------------------------------------------------------------------------------------

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("Content-Length") or 0)
        body = json.loads(handler.rfile.read(length) or b"null")
        url = urlsplit(handler.path)
        shown = base64.b64decode(handler.headers.get("Authorization", "Basic ").split()[-1]).decode()
        with self._lock:
            self.calls.append((handler.command, url.path))
            if url.query and body is not None:
                status, answer = 400, {"code": 400, "message": "Can't combine query and body parameters"}
            elif shown != f"{USER}:{SECRET}":
                status, answer = 401, RECORDED["denied"]
            else:
                status, answer = self._answer(handler.command, url.path, body or parse_qs(url.query))
        content = json.dumps(answer).encode()
        if self._garbled.get(handler.command, (0, b""))[0]:
            status, content = self._garbled[handler.command]
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    def _answer(self, method: str, path: str, body: dict | None) -> tuple[int, object]:
        parts = path.strip("/").split("/")[1:]
        if method == "GET":
            return self._look(parts)
        if parts[0] == "jobs":
            return 200, self._cancel(int(parts[1]))
        if parts[0] == "nodes":
            return 200, self._submitted("OP_NODE_SET_PARAMS", parts[1], {"role": body})
        name = parts[1] if len(parts) > 1 else body["instance_name"]
        op = _OPS[method, "/".join(parts[2:]) if len(parts) > 2 else "/" if len(parts) > 1 else ""]
        return 200, self._submitted(op, name, body or {})

    def _submitted(self, op: str, name: str, body: dict) -> int:
        number = 1 + len(self.jobs)
        self.jobs[number] = {"op": op, "instance": name, "body": body, "status": "waiting", "result": None}
        return number

    def _look(self, parts: list[str]) -> tuple[int, object]:
        match parts:
            case ["instances"]:
                return 200, list(self.instances.values())
            case ["instances", name]:
                return (200, self.instances[name]) if name in self.instances else (404, RECORDED["missing"])
            case ["jobs"]:
                return 200, [self._job(number) for number in self.jobs]
            case ["jobs", number]:
                self._work(int(number))
                return 200, self._job(int(number))
            case ["networks" | "nodes" | "groups" as kind, *_]:
                return 200, RECORDED[{"networks": "network", "nodes": "nodes_down"}.get(kind, kind)]
        raise AssertionError(parts)

    def _job(self, number: int) -> dict:
        """Return the job as RAPI describes it: the recorded one, with this job's id, status and instance."""
        found = self.jobs.get(number)
        if found is None:
            return dict.fromkeys(RECORDED["jobs"]["OP_INSTANCE_CREATE"]) | {"id": number}
        job = copy.deepcopy(RECORDED["jobs"][found["op"]])
        failed = found["status"] == "error"
        ended = found["status"] in ("success", "error")
        job |= {"id": number, "status": found["status"], "opstatus": [found["status"]]}
        job["ops"] = [{**op, _ABOUT.get(found["op"], "instance_name"): found["instance"]} for op in job["ops"]]
        job["opresult"] = [RECORDED["errors"][found["result"]]] if failed else job["opresult"] if ended else [None]
        return job

    def _cancel(self, number: int) -> list:
        job = self.jobs[number]
        if job["status"] != "waiting":
            return [False, f"Job {number} is not waiting in the queue"]
        job["status"] = "canceled"
        return [True, f"Job {number} canceled"]

    def _work(self, number: int) -> None:
        """Advance the job: end it unless it is held."""
        job = self.jobs.get(number)
        if job is None or job["status"] not in ("waiting", "running"):
            return
        if job["op"] in self._held:
            job["status"] = "running"
        elif job["op"] in self._failing:
            job["status"], job["result"] = "error", self._failing[job["op"]]
        else:
            job["result"] = self._done(job["op"], job["instance"], job["body"])
            job["status"] = "error" if job["result"] else "success"

    def _done(self, op: str, name: str, body: dict) -> str | None:  # noqa: C901, PLR0911, PLR0912 - a case for each
        """Carry out the job; return the key of the recorded error that it ends with, or None."""
        if op == "OP_INSTANCE_CREATE":
            if name in self.instances:
                return "exists"
            made = copy.deepcopy(RECORDED["instance"])
            made |= {"name": name, "tags": body["tags"], "disk.sizes": [disk["size"] for disk in body["disks"]]}
            made["beparams"] |= body["beparams"]
            made["hvparams"] |= body["hvparams"]
            if "pnode" in body:
                made["pnode"] = body["pnode"]
            self.instances[name] = made
            return None
        if op == "OP_NODE_SET_PARAMS":
            for instance in self.instances.values():
                if instance["pnode"] == name:
                    instance["status"] = "ERROR_nodeoffline"
            return None
        instance = self.instances.get(name)
        if instance is None:
            return "missing"
        instance["serial_no"] += 1
        match op:
            case "OP_INSTANCE_REMOVE":
                del self.instances[name]
            case "OP_INSTANCE_RENAME":
                instance["name"] = body["new_name"]
                self.instances[body["new_name"]] = self.instances.pop(name)
            case "OP_INSTANCE_STARTUP":
                instance |= {"status": "running", "admin_state": "up", "oper_state": True}
            case "OP_INSTANCE_SHUTDOWN" | "OP_INSTANCE_REINSTALL":
                instance |= {"status": "ADMIN_down", "admin_state": "down", "oper_state": False}
            case "OP_INSTANCE_MIGRATE" | "OP_INSTANCE_FAILOVER":
                if instance["status"] == "ERROR_nodedown":
                    return "node_down"
                instance["pnode"] = body.get("target_node", "node1.example.test")
                if instance["admin_state"] == "up":
                    instance |= {"status": "running", "oper_state": True}
            case "OP_INSTANCE_SET_PARAMS":
                instance["beparams"] |= body.get("beparams", {})
                instance["hvparams"] |= body.get("hvparams", {})
            case "OP_INSTANCE_GROW_DISK":
                instance["disk.sizes"] = [body["amount"]]
            case "OP_TAGS_SET":
                instance["tags"] = sorted({*instance["tags"], *body["tag"]})
            case "OP_TAGS_DEL":
                if not {*instance["tags"]} >= {*body["tag"]}:
                    return "no_tag"
                instance["tags"] = [tag for tag in instance["tags"] if tag not in body["tag"]]
        return None
