"""The life of an instance on a real cluster, through the API."""


def test_life_of_an_instance(vms, create, nodes):
    """It boots, keeps its files across a stop and a rename, loses them in a reset, and leaves nothing when deleted."""
    create(vms, "web", node="node2.example.test")
    instance_id = vms.engine.site("web").spec.instance_id
    vms.start("web")
    assert vms.run("web", ["hostname"]).text == "web"
    vms.run("web", ["sh", "-c", "echo kept >~/note; sync"])
    assert vms.stop("web").detail == "guest shut down"
    vms.rename("web", "site")
    vms.start("site")
    assert vms.run("site", ["cat", "note"]).text == "kept"
    listed = nodes.sh("node1", "gnt-instance list --no-headers -o name,pnode,status site").split()
    assert listed == ["site", "node2.example.test", "running"]
    vms.kill("site")
    vms.reset("site")
    vms.start("site")
    assert vms.run("site", ["ls"]).text == ""
    vms.kill("site")
    vms.delete("site")
    assert "site" not in nodes.sh("node1", "gnt-instance list --no-headers -o name").split()
    assert not (nodes.directory / "shared" / "interlock" / "instances" / instance_id).exists()


def test_what_others_do_is_recorded_as_observed(vms, create, nodes):
    """The cluster chooses a node if none is given; a start and a stop by an administrator are recorded."""
    create(vms, "web")
    nodes.sh("node1", "gnt-instance startup web")
    assert vms.status("web").state == "running"
    nodes.sh("node1", "gnt-instance shutdown --timeout=0 web")
    assert vms.status("web").state == "stopped"
    assert [entry.trigger for entry in vms.history("web")][-2:] == ["found", "exited"]
