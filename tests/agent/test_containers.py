"""From a pod's words to what the Runtime starts: commands, users, capabilities, limits, mounts, and the OCI configuration made of it."""

import os
from dataclasses import replace

import pytest

from labctl.agent import containers, podfiles, quantities, users
from labctl.agent.cgroups import Cgroups, weight_of
from labctl.agent.containers import argv, capabilities, container_spec, limits, mounts_of, sandbox_spec, seccomp_profile, sysctls
from labctl.agent.environment import ConfigError
from labctl.agent.facts import pids_max
from labctl.agent.images import Image
from labctl.agent.mountmodes import told
from labctl.agent.node import left_to_pods
from labctl.agent.runtime import oci
from labctl.agent.runtime.interface import Limits, Mount
from labctl.agent.runtime.oci import ALL_CAPABILITIES
from labctl.agent.runtime.seccomp import profile
from labctl.agent.settings import Settings

IMAGE = {
    "Entrypoint": ["/entry"],
    "Cmd": ["run", "$(A)"],
    "Env": ["PATH=/image", "A=image"],
    "WorkingDir": "/work",
    "User": "app:staff",
    "StopSignal": "SIGQUIT",
}


@pytest.fixture
def layers(tmp_path):
    for name, passwd in (("low", "root:x:0:0::/:\napp:x:7:8::/:\n"), ("high", "")):
        (tmp_path / name / "etc").mkdir(parents=True)
        if passwd:
            (tmp_path / name / "etc/passwd").write_text(passwd)
            (tmp_path / name / "etc/group").write_text("staff:x:50:\nextra:x:60:other,app\n")
    return str(tmp_path / "low"), str(tmp_path / "high")


def pod(container=None, **spec):
    container = {"name": "c", "image": "i", **(container or {})}
    return {"metadata": {"name": "web", "namespace": "default", "uid": "u1"}, "spec": {"containers": [container], **spec}}


def spec_of(layers, container=None, image=None, **spec):
    the_pod = pod(container, **spec)
    the_image = Image("docker.io/library/i:1", "sha256:1", layers, IMAGE if image is None else image)
    return container_spec(
        the_pod, the_pod["spec"]["containers"][0], 2, the_image, {"B": "2"}, (), log_path="/l", message_path="/m", delay_s=0
    )


@pytest.mark.parametrize(
    ("container", "words"),
    [
        ({}, ["/entry", "run", "$(A)"]),
        ({"args": ["$(A)"]}, ["/entry", "1"]),
        ({"command": ["sh", "-c"]}, ["sh", "-c"]),
        ({"command": ["sh"], "args": ["x$(A)", "$$(A)"]}, ["sh", "x1", "$(A)"]),
    ],
)
def test_command_and_args_replace_the_images(container, words):
    assert argv(container, IMAGE, {"A": "1"}) == words


def test_no_command_at_all_is_an_error():
    with pytest.raises(ConfigError, match="no command specified"):
        argv({}, {}, {})


@pytest.mark.parametrize("container", [{"command": ["a\0b"]}, {"args": ["a\0"]}, {"workingDir": "/a\0b"}])
def test_a_nul_byte_ends_no_text_early(layers, container):
    with pytest.raises(ConfigError, match="has a NUL byte"):
        spec_of(layers, container)


def test_a_nul_byte_in_a_variable_or_a_mount_is_refused(layers):
    the_pod, image = pod(), Image("docker.io/library/i:1", "sha256:1", layers, IMAGE)
    for env, mounts in (({"A": "x\0y"}, ()), ({}, [Mount("/s", "/t\0u")])):
        with pytest.raises(ConfigError, match="has a NUL byte"):
            container_spec(the_pod, the_pod["spec"]["containers"][0], 1, image, env, mounts, log_path="/l", message_path="/m", delay_s=0)


def test_the_spec_of_a_container(layers):
    spec = spec_of(layers, {"resources": {"limits": {"memory": "64Mi", "cpu": "250m"}, "requests": {"cpu": "100m"}}})
    assert (spec.memory_limit_bytes, spec.cpu_quota_us, spec.cpu_shares) == (64 << 20, 25_000, 102)
    assert (spec.cwd, spec.stop_signal, spec.image_id, spec.attempt) == ("/work", "SIGQUIT", "docker.io/library/i@sha256:1", 2)
    assert dict(each.split("=", 1) for each in spec.env) == {"PATH": "/image", "HOSTNAME": "web", "A": "image", "B": "2"}
    assert (spec.uid, spec.gid, spec.groups) == (7, 50, (60,))


@pytest.mark.parametrize(
    ("context", "pod_context", "image_user", "expected"),
    [
        ({}, {}, "", (0, 0, ())),
        ({}, {}, "app", (7, 8, (60,))),
        ({}, {}, "1234:50", (1234, 50, ())),
        ({"runAsUser": 7}, {"runAsUser": 9, "runAsGroup": 3}, "root", (7, 3, (60,))),
        ({}, {"supplementalGroups": [5], "supplementalGroupsPolicy": "Strict"}, "app", (7, 8, (5,))),
        ({}, {"runAsUser": 4321, "fsGroup": 9, "supplementalGroups": [5]}, "app", (4321, 0, (5, 9))),
    ],
)
def test_who_a_container_runs_as(layers, context, pod_context, image_user, expected):
    user = users.resolve(context, pod_context, image_user, layers)
    assert (user.uid, user.gid, user.groups) == expected


def test_a_user_that_the_image_does_not_know(layers):
    with pytest.raises(ConfigError, match="unable to find user nobody"):
        users.resolve({}, {}, "nobody", layers)


def test_passwd_is_not_read_through_a_link_out_of_the_image(layers, tmp_path):
    (tmp_path / "secret").write_text("root:x:0:0::/:\nevil:x:666:666::/:\n")
    (tmp_path / "high/etc/passwd").symlink_to(tmp_path / "secret")
    with pytest.raises(ConfigError, match="unable to find user evil"):
        users.resolve({}, {}, "evil", layers)


def test_root_is_refused_where_it_must_not_be(layers):
    with pytest.raises(ConfigError, match=r'runAsNonRoot and image will run as root \(pod: "web_default\(u1\)", container: c\)'):
        spec_of(layers, {"securityContext": {"runAsNonRoot": True}}, image={"Cmd": ["x"]})


@pytest.mark.parametrize(
    ("asked", "of_pod", "user", "why"),
    [
        ({}, {}, "", "container has runAsNonRoot and image will run as root"),
        ({}, {}, "0:5", "container has runAsNonRoot and image will run as root"),
        ({}, {}, "www", "container has runAsNonRoot and image has non-numeric user (www), cannot verify user is non-root"),
        ({}, {}, "www:7", "container has runAsNonRoot and image has non-numeric user (www), cannot verify user is non-root"),
        ({"runAsUser": 0}, {}, "5", "container's runAsUser breaks non-root policy"),
        ({}, {"runAsUser": 0}, "5", "container's runAsUser breaks non-root policy"),
        ({"runAsUser": 7}, {"runAsUser": 0}, "www", ""),
        ({}, {}, "5", ""),
    ],
)
def test_who_may_be_root_is_told_in_the_kubelets_words(asked, of_pod, user, why):
    assert users.may_be_root(asked, of_pod, user) == why


@pytest.mark.parametrize(
    ("asked", "has", "lacks"),
    [
        ({}, "CAP_CHOWN", "CAP_SYS_ADMIN"),
        ({"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}, "CAP_NET_BIND_SERVICE", "CAP_CHOWN"),
        ({"add": ["CAP_SYS_TIME"], "drop": ["chown"]}, "CAP_SYS_TIME", "CAP_CHOWN"),
        ({"add": ["ALL"], "drop": ["SYS_BOOT"]}, "CAP_SYS_ADMIN", "CAP_SYS_BOOT"),
    ],
)
def test_capabilities(asked, has, lacks):
    found = capabilities(asked)
    assert has in found and lacks not in found


def test_the_oci_configuration(layers):
    spec = spec_of(layers, {"securityContext": {"readOnlyRootFilesystem": True, "capabilities": {"add": ["SYS_TIME"]}}})
    made = oci.configuration(spec, namespaces={"pid": "", "net": "/ns/net"}, cgroup="/pods/u1/c-2", held=["CAP_CHOWN"])
    assert made["process"]["capabilities"]["bounding"] == ["CAP_CHOWN"], "only what this machine may hand on"
    assert made["root"]["readonly"] and made["linux"]["cgroupsPath"] == "/pods/u1/c-2"
    assert {"type": "network", "path": "/ns/net"} in made["linux"]["namespaces"] and {"type": "pid"} in made["linux"]["namespaces"]
    assert "memory" not in made["linux"]["resources"]


def test_held_capabilities_are_read_from_the_kernels_words():
    assert oci.held_capabilities("Name:\tx\nCapPrm:\t0000000000000003\n") == ["CAP_CHOWN", "CAP_DAC_OVERRIDE"]


def test_a_pods_shares_are_its_containers_together():
    the_pod = pod({"resources": {"requests": {"cpu": "500m"}, "limits": {"memory": "1Gi"}}})
    assert (sandbox_spec(the_pod).cpu_shares, sandbox_spec(the_pod).memory_limit_bytes) == (512, 1 << 30)
    assert sandbox_spec(pod()).memory_limit_bytes == 0
    assert (weight_of(2), weight_of(1024), weight_of(262_144)) == (1, 39, 10_000)


def test_a_pods_own_resources_bound_it_and_the_containers_that_have_no_limit():
    bounded = {"name": "bounded", "image": "i", "resources": {"requests": {"cpu": "100m"}, "limits": {"cpu": "250m"}}}
    the_pod = pod({"resources": {}})
    own = {"requests": {"cpu": "1"}, "limits": {"cpu": "2", "memory": "1Gi"}}
    the_pod = {**the_pod, "spec": {**the_pod["spec"], "containers": [*the_pod["spec"]["containers"], bounded], "resources": own}}
    shared = sandbox_spec(the_pod)
    assert (shared.cpu_shares, shared.cpu_quota_us, shared.memory_limit_bytes) == (1024, 200_000, 1 << 30)
    free = the_pod["spec"]["containers"][0]
    assert limits(the_pod, free) == Limits(2, 200_000, 1 << 30) and limits(the_pod, bounded) == Limits(102, 25_000, 1 << 30)


def test_a_pod_of_its_own_users_has_so_many(tmp_path):
    own = {**pod()["spec"], "hostUsers": False}
    with pytest.raises(ConfigError, match="runtime does not support user namespaces"):
        sandbox_spec({**pod(), "spec": own})
    assert sandbox_spec({**pod(), "spec": own}, own_users=True).own_users and not sandbox_spec(pod(), own_users=True).own_users

    def made(spec, **context):
        the_pod = {**pod(), "spec": {**spec, "securityContext": context}}
        image = Image("i", "i@sha256:0", (str(tmp_path),), {"Cmd": ["true"]}, 0)
        return container_spec(the_pod, spec["containers"][0], 0, image, {}, [], log_path="", message_path="", delay_s=0)

    assert made(own, runAsUser=65_535).uid == 65_535 and made(pod()["spec"], runAsUser=65_536).uid == 65_536
    for context in ({"runAsUser": 65_536}, {"fsGroup": 65_536}, {"runAsUser": 1, "runAsGroup": 65_536}):
        with pytest.raises(ConfigError, match="the pod's own users and groups are those from 0 to 65535: 65536 is not among them"):
            made(own, **context)


def test_a_pods_hostname_may_be_a_whole_name():
    whole = pod()
    whole["spec"].update(hostname="web", subdomain="sub", setHostnameAsFQDN=True)
    assert sandbox_spec(whole, "cluster.local").hostname == "web.sub.default.svc.cluster.local"
    assert podfiles.hosts(whole, "10.246.1.2", "web", "cluster.local").endswith("10.246.1.2\tweb.sub.default.svc.cluster.local\tweb\n")
    with pytest.raises(ConfigError, match="FQDN web.sub.default.svc.*is too long .64 characters is the max, 6[5-9] characters requested"):
        sandbox_spec(whole, "cluster.a-domain-that-is-so-very-very-long.local")
    whole["spec"].update(setHostnameAsFQDN=False, hostnameOverride="web.example.org")
    assert sandbox_spec(whole, "cluster.local").hostname == "web.example.org"
    assert podfiles.hosts(whole, "10.246.1.2", "web.example.org", "cluster.local").endswith("10.246.1.2\tweb.example.org\n")


def test_mounts_outer_first_and_the_pods_own_files_give_way():
    container = {"volumeMounts": [{"name": "v", "mountPath": "/a/b/c", "readOnly": True}, {"name": "v", "mountPath": "/etc/hosts"}]}
    files = [Mount("/pod/hosts", "/etc/hosts"), Mount("/pod/resolv", "/etc/resolv.conf")]
    made = mounts_of(container, {"v": "/vol"}, files, {}, ("/msg", "/dev/termination-log"))
    assert [(each.source, each.target) for each in made if each.target == "/etc/hosts"] == [("/vol", "/etc/hosts")]
    assert made[-1] == Mount("/vol", "/a/b/c", True)
    with pytest.raises(ConfigError, match="volume w is not there"):
        mounts_of({"volumeMounts": [{"name": "w", "mountPath": "/"}]}, {}, [], {}, ("", ""))


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("$(NOPE)/a/$(EMPTY)/$(A)", "missing value for EMPTY, NOPE"),
        ("$(EMPTY)", "missing value for EMPTY"),
        ("$(UP)/x", "unable to provision SubPath `../y/x`: must not contain '[.][.]'"),
        ("$(ROOT)", "error SubPath `/etc` must not be an absolute path"),
    ],
)
def test_a_sub_path_with_a_variable_that_says_nothing_is_refused(expression, why):
    container = {"volumeMounts": [{"name": "v", "mountPath": "/v", "subPathExpr": expression}]}
    env = {"A": "a", "EMPTY": "", "UP": "../y", "ROOT": "/etc"}
    with pytest.raises(ConfigError, match=why):
        mounts_of(container, {"v": "/vol"}, [], env, ("", ""))


def test_a_sub_path_is_made_of_variables():
    container = {"volumeMounts": [{"name": "v", "mountPath": "/v", "subPathExpr": "$(A)-$$(B)"}]}
    [mount] = mounts_of(container, {"v": "/vol"}, [], {"A": "a"}, ("", ""))
    assert mount.below == "a-$(B)"


def test_who_sees_later_mounts_is_the_mounts_word():
    words = (None, "None", "HostToContainer", "Bidirectional")
    container = {"volumeMounts": [{"name": "v", "mountPath": f"/{n}", "mountPropagation": word} for n, word in enumerate(words)]}
    made = mounts_of(container, {"v": "/vol"}, [], {}, ("", ""))
    assert [each.propagation for each in made] == ["private", "private", "slave", "shared"]


def test_what_is_mounted_below_a_read_only_mount_is_read_only_where_that_is_asked_for_and_possible():
    def made(mode, possible):
        container = {"volumeMounts": [{"name": "v", "mountPath": "/v", "readOnly": True, **({"recursiveReadOnly": mode} if mode else {})}]}
        [mount] = mounts_of(container, {"v": "/vol"}, [], {}, ("", ""), recursive=possible)
        return mount.recursive, told(container, possible)[0]["recursiveReadOnly"]

    assert [made(mode, True) for mode in ("", "Disabled", "IfPossible", "Enabled")] == [(False, "Disabled")] * 2 + [(True, "Enabled")] * 2
    assert [made(mode, False) for mode in ("", "Disabled", "IfPossible")] == [(False, "Disabled")] * 3
    with pytest.raises(ConfigError, match='volume "v" requested recursive read-only mode, but it is not supported by the runtime'):
        made("Enabled", False)


@pytest.mark.parametrize(("text", "number"), [("100m", 1), ("1Gi", 1 << 30), ("1.5k", 1500), ("2e3", 2000), ("", 0), (3, 3)])
def test_quantities_are_rounded_up(text, number):
    assert quantities.whole(text) == number


def test_what_is_no_quantity():
    with pytest.raises(ValueError, match="no quantity"):
        quantities.parse("lots")


def test_hosts():
    the_pod = pod(hostAliases=[{"ip": "1.2.3.4", "hostnames": ["a", "b"]}], subdomain="sub")
    hosts = podfiles.hosts(the_pod, "10.246.1.2", "web", "cluster.local")
    assert "10.246.1.2\tweb.sub.default.svc.cluster.local\tweb\n" in hosts and "1.2.3.4\ta\tb\n" in hosts


@pytest.mark.parametrize("written", [b"\xff\xfe no text", b"", b"x" * 100])
def test_what_a_container_wrote_to_its_hosts_file_harms_nobody(tmp_path, written):
    first = podfiles.write(pod(), str(tmp_path), "10.246.1.2", "web", (), "cluster.local")
    right = (tmp_path / "hosts").read_bytes()
    inode = (tmp_path / "hosts").stat().st_ino
    (tmp_path / "hosts").write_bytes(written)
    os.truncate(tmp_path / "resolv.conf", 1 << 40)  # a sparse file that no memory holds
    assert podfiles.write(pod(), str(tmp_path), "10.246.1.2", "web", (), "cluster.local") == first
    assert ((tmp_path / "hosts").read_bytes(), (tmp_path / "hosts").stat().st_ino) == (right, inode)
    assert (tmp_path / "resolv.conf").stat().st_size < 10_000


def test_a_host_network_pod_is_on_the_machines_network():
    assert sandbox_spec(pod(hostNetwork=True)).host_network
    assert containers.sandbox_spec({**pod(), "metadata": {"name": "x" * 70, "namespace": "d", "uid": "u"}}).hostname == "x" * 63


def test_the_seccomp_profile_is_the_containers_word_then_the_pods_then_the_machines():
    default, free = {"seccompProfile": {"type": "RuntimeDefault"}}, {"seccompProfile": {"type": "Unconfined"}}
    assert [seccomp_profile({}, {}, default) for default in (True, False)] == ["RuntimeDefault", "Unconfined"]
    assert seccomp_profile({}, default, False) == "RuntimeDefault"
    assert seccomp_profile(free, default, True) == seccomp_profile({}, free, True) == "Unconfined"
    assert seccomp_profile({"privileged": True, **default}, default, True) == "Unconfined"
    with pytest.raises(ConfigError, match="seccomp profiles of type Localhost are not supported"):
        seccomp_profile({"seccompProfile": {"type": "Localhost", "localhostProfile": "x.json"}}, {}, True)


def test_a_pod_sets_only_the_sysctls_of_its_own_namespaces():
    def of(*names, **spec):
        return sysctls(pod(securityContext={"sysctls": [{"name": name, "value": "1"} for name in names]}, **spec))

    assert of("net.core.somaxconn", "kernel/shmmax") == [("net.core.somaxconn", "1"), ("kernel.shmmax", "1")]
    for name in ("kernel.panic", "vm.swappiness", "kernel.../vm/panic_on_oom", "net/../vm/swappiness", "kernel.sched_domain"):
        with pytest.raises(ConfigError, match="forbidden sysctl"):
            of(name)
    with pytest.raises(ConfigError, match="forbidden sysctl"):
        of("net.core.somaxconn", hostNetwork=True)
    with pytest.raises(ConfigError, match="forbidden sysctl"):
        of("kernel.shmmax", hostIPC=True)


def test_a_capability_opens_the_calls_that_the_kernel_asks_it_for():
    def refused(*capabilities):
        rules = profile(capabilities, "x86_64")["syscalls"]
        return {name for rule in rules if "args" not in rule for name in rule["names"]}

    assert {"mount", "unshare", "bpf", "clone3", "chroot", "syslog", "keyctl", "reboot"} <= refused()
    assert refused() - refused("CAP_SYS_CHROOT") == {"chroot"}
    assert refused() - refused("CAP_SYSLOG") == {"syslog"}
    assert {"mount", "unshare", "bpf", "clone3", "syslog"} <= refused() - refused("CAP_SYS_ADMIN")
    assert "keyctl" in refused(*ALL_CAPABILITIES)
    assert profile((), "riscv64")["architectures"] == []


def test_no_pod_has_more_than_dockers_default_capabilities_unless_it_asks():
    assert set(capabilities({})) == {
        *("CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD", "CAP_NET_BIND_SERVICE"),
        *("CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT"),
    }


GIB = 1 << 30


@pytest.mark.parametrize(
    ("quality", "asked", "expected"),
    [
        ("BestEffort", "0", 1000),
        ("Guaranteed", "64Mi", -997),
        ("Burstable", "0", 999),
        ("Burstable", "512Mi", 500),
        ("Burstable", "2Gi", 3),
        ("", "512Mi", 1000),
    ],
)
def test_who_asked_for_more_memory_is_killed_later(quality, asked, expected):
    described = {**pod({"resources": {"requests": {"memory": asked}}}), "status": {"qosClass": quality}}
    assert containers.oom_score_adj(described, described["spec"]["containers"][0], GIB) == expected


def test_a_sidecar_is_killed_no_sooner_than_whom_it_serves():
    sidecar = {"name": "s", "image": "i", "restartPolicy": "Always"}
    described = {**pod({"resources": {"requests": {"memory": "512Mi"}}}, initContainers=[sidecar]), "status": {"qosClass": "Burstable"}}
    assert containers.oom_score_adj(described, sidecar, GIB) == 500
    del sidecar["restartPolicy"]
    assert containers.oom_score_adj(described, sidecar, GIB) == 999, "an init container is gone when they run"


def test_the_machine_keeps_some_memory_and_processes_to_itself():
    settings = Settings("m", "http://api", "", "", "", memory_bytes=GIB)
    memory, pids = left_to_pods(settings)
    assert memory == GIB - settings.memory_reserved_bytes
    assert 0 < pids < pids_max()
    small = replace(settings, memory_bytes=settings.memory_reserved_bytes)
    assert left_to_pods(small)[0] == settings.memory_reserved_bytes // 2, "some can run at all"


@pytest.mark.parametrize("version", [1, 2])
def test_pods_are_bounded_in_both_versions_of_control_groups(tmp_path, version):
    """In folders that stand for the kernel's: what is written where."""
    if version == 2:
        (tmp_path / "cgroup.controllers").write_text("cpu memory pids")
    else:
        for controller in ("cpu", "memory", "pids"):
            (tmp_path / controller).mkdir()

    def said(group, *names):
        base = [tmp_path / group if version == 2 else tmp_path / name.partition(".")[0] / group for name in names]
        return [(folder / name).read_text() for folder, name in zip(base, names, strict=True)]

    groups = Cgroups("", str(tmp_path))
    groups.bound_all(900, 80)
    groups.open("u1", Limits(512, 20_000, 300), 10)
    groups.open("u2", Limits(), 0)
    limit, weight, quota = (
        ("memory.max", "cpu.weight", "cpu.max") if version == 2 else ("memory.limit_in_bytes", "cpu.shares", "cpu.cfs_quota_us")
    )
    assert said("pods", limit, "pids.max") == ["900", "80"]
    assert said("pods/u1", limit, "pids.max", weight, quota) == ["300", "10", str(weight_of(512)) if version == 2 else "512", "20000"]
    assert not list(tmp_path.glob("**/u2/pids.max")) and not list(tmp_path.glob("**/u2/memory*"))
    [current] = [each.parent / "pids.current" for each in tmp_path.glob("**/pods/pids.max")]
    assert groups.pids_left() is None
    current.write_text("30\n")
    assert groups.pids_left() == 50
