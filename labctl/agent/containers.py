"""From a container of a pod's spec to the ContainerSpec that the Runtime starts, and a pod to its SandboxSpec. Pure, but for reading the image's passwd."""

from __future__ import annotations

import os
from typing import Any, Collection, Dict, List, Mapping, Sequence, Tuple

from . import mountmodes, quantities, users
from .environment import ConfigError, expand, referenced
from .images import Image
from .runtime.interface import ContainerSpec, Limits, Mount, SandboxSpec
from .runtime.oci import ALL_CAPABILITIES, DEFAULT_CAPABILITIES
from .runtime.seccomp import RUNTIME_DEFAULT, UNCONFINED
from .runtime.userns import IDS
from .titles import pod_title

Object = Dict[str, Any]
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_OF_IPC = ("kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue.")
MESSAGE_PATH = "/dev/termination-log"
_GUARANTEED_OOM, _BEST_EFFORT_OOM = -997, 1000
MOST_HOSTNAME = 64
"""Of the kernel, in characters."""
MOST_CPU_SHARES = 262_144
NO_MEMORY_LIMIT_BYTES = 1 << 60
"""The kernel refuses more shares, and numbers that are much larger; the kubelet has the first bound too."""


def hostname_of(pod: Object) -> str:
    """Return the name that the pod's own files give to it."""
    spec = pod["spec"]
    return spec.get("hostnameOverride") or (spec.get("hostname") or pod["metadata"]["name"])[:63].rstrip("-.")


def kernel_hostname(pod: Object, cluster_domain: str) -> str:
    """Return what `hostname` answers in the pod: with setHostnameAsFQDN the whole name, as its subdomain makes it. Raises ConfigError if that is too long."""
    spec, name = pod["spec"], hostname_of(pod)
    if not (spec.get("setHostnameAsFQDN") and spec.get("subdomain")):
        return name
    whole = f"{name}.{spec['subdomain']}.{pod['metadata']['namespace']}.svc.{cluster_domain}"
    if len(whole) > MOST_HOSTNAME:
        bound = f"({MOST_HOSTNAME} characters is the max, {len(whole)} characters requested)"
        raise ConfigError(f"failed to construct FQDN from pod hostname and cluster domain, FQDN {whole} is too long {bound}")
    return whole


def sandbox_spec(pod: Object, cluster_domain: str = "", pids_max: int = 0, own_users: bool = False) -> SandboxSpec:
    """Raises ConfigError for a pod that wants users of its own, unless it may have them here (`own_users`): the API relaxes its rules for such pods.
    Likewise for one that was put on this node, past the scheduler, with claims for devices."""
    meta, spec = pod["metadata"], pod["spec"]
    if spec.get("hostUsers") is False and not own_users:
        raise ConfigError("can't set `spec.hostUsers: false`, runtime does not support user namespaces")
    if spec.get("resourceClaims"):
        raise ConfigError("failed to prepare dynamic resources: no driver of devices runs on this node")
    bounds = pod_limits(pod)
    return SandboxSpec(
        meta["uid"],
        meta["namespace"],
        meta["name"],
        kernel_hostname(pod, cluster_domain),
        bool(spec.get("hostNetwork")),
        bounds.cpu_shares,
        bounds.memory_limit_bytes,
        bounds.cpu_quota_us,
        bool(spec.get("hostPID")),
        bool(spec.get("hostIPC")),
        bool(spec.get("shareProcessNamespace")),
        pids_max,
        spec.get("hostUsers") is False,
    )


def pod_limits(pod: Object) -> Limits:
    """What all containers of a pod together may use: what the pod itself says (KEP-2837), else the sum of theirs.

    No memory limit if one of them has none, or runs alone before the others.
    """
    spec = pod["spec"]
    every = [*spec["containers"], *(each for each in spec.get("initContainers") or () if each.get("restartPolicy") == "Always")]
    memory = [_memory_limit(each) for each in every]
    shares = max(2, sum(_cpu_shares(each) for each in every))
    whole = sum(memory) if all(memory) and not spec.get("initContainers") else 0
    own = spec.get("resources") or {}
    if "cpu" in (own.get("requests") or {}):
        shares = _cpu_shares(spec)
    return Limits(shares, _cpu_quota(own), _memory_limit(spec) if "memory" in (own.get("limits") or {}) else whole)


def oom_score_adj(pod: Object, container: Object, memory_bytes: int) -> int:
    """Return how soon the kernel is to kill the container when memory runs out, as the kubelet says it: the more it asked for, the later.

    A Guaranteed pod goes last and a BestEffort pod first. `memory_bytes` is what the machine has.
    """
    quality = (pod.get("status") or {}).get("qosClass", "")
    if quality == "Guaranteed":
        return _GUARANTEED_OOM
    if quality != "Burstable":
        return _BEST_EFFORT_OOM
    share = _BEST_EFFORT_OOM - _BEST_EFFORT_OOM * _memory_request(container) // max(1, memory_bytes)
    if (
        any(each["name"] == container["name"] for each in pod["spec"].get("initContainers") or ())
        and container.get("restartPolicy") == "Always"
    ):
        share = min(share, *(oom_score_adj(pod, each, memory_bytes) for each in pod["spec"]["containers"]))  # no sooner than whom it serves
    return max(_BEST_EFFORT_OOM + _GUARANTEED_OOM, min(_BEST_EFFORT_OOM - 1, share))


def limits(pod: Object, container: Object) -> Limits:
    """What the machine lets a container use, by its resources. Where it has no limit of its own, its pod's holds for it, too, so that it can see it."""
    own, asked = (pod["spec"].get("resources") or {}).get("limits") or {}, container.get("resources") or {}
    bounded = {**asked, "limits": {**own, **(asked.get("limits") or {})}} if own else asked
    return Limits(_cpu_shares(container), _cpu_quota(bounded), _memory_limit({"resources": bounded}))


def container_spec(
    pod: Object,
    container: Object,
    attempt: int,
    image: Image,
    env: Mapping[str, str],
    mounts: Sequence[Mount],
    *,
    log_path: str,
    message_path: str,
    delay_s: float,
    seccomp_default: bool = True,
    memory_bytes: int = 0,
) -> ContainerSpec:
    """Raises ConfigError for what can't be."""
    context, pod_context = container.get("securityContext") or {}, pod["spec"].get("securityContext") or {}
    user = users.resolve(context, pod_context, image.config.get("User", ""), image.layers)
    beyond = [each for each in (user.uid, user.gid, *user.groups) if each >= IDS]
    if beyond and pod["spec"].get("hostUsers") is False:
        raise ConfigError(f"the pod's own users and groups are those from 0 to {IDS - 1}: {beyond[0]} is not among them")
    if context.get("runAsNonRoot", pod_context.get("runAsNonRoot")):
        why = users.may_be_root(context, pod_context, image.config.get("User", ""))
        if why:
            raise ConfigError(f'{why} (pod: "{pod_title(pod)}", container: {container["name"]})')
    bounds = limits(pod, container)
    spec = ContainerSpec(
        pod_uid=pod["metadata"]["uid"],
        name=container["name"],
        attempt=attempt,
        image=image.name,
        image_id=image.id,
        layers=image.layers,
        argv=tuple(argv(container, image.config, env)),
        env=tuple(environment(pod, container, image.config, env)),
        cwd=container.get("workingDir") or image.config.get("WorkingDir") or "/",
        uid=user.uid,
        gid=user.gid,
        groups=user.groups,
        capabilities=tuple(ALL_CAPABILITIES if context.get("privileged") else capabilities(context.get("capabilities") or {})),
        no_new_privileges=context.get("allowPrivilegeEscalation") is False,
        sysctls=tuple(sysctls(pod)),
        seccomp=seccomp_profile(context, pod_context, seccomp_default),
        privileged=bool(context.get("privileged")),
        read_only_root=bool(context.get("readOnlyRootFilesystem")),
        mounts=tuple(mounts),
        cpu_shares=bounds.cpu_shares,
        cpu_quota_us=bounds.cpu_quota_us,
        memory_limit_bytes=bounds.memory_limit_bytes,
        log_path=log_path,
        stdin=bool(container.get("stdin")),
        stdin_once=bool(container.get("stdinOnce")),
        tty=bool(container.get("tty")),
        stop_signal=(container.get("lifecycle") or {}).get("stopSignal") or image.config.get("StopSignal") or "SIGTERM",
        delay_s=delay_s,
        sees_processes_of=container.get("targetContainerName") or "",
        message_path=message_path,
        oom_score_adj=oom_score_adj(pod, container, memory_bytes),
    )
    _refuse_nul(spec)
    return spec


def _refuse_nul(spec: ContainerSpec) -> None:
    """The runtime would take a NUL byte for the text's end."""
    for what, texts in (
        ("command", spec.argv),
        ("environment", spec.env),
        ("workingDir", (spec.cwd,)),
        ("mountPath", [each.target for each in spec.mounts]),
    ):
        for text in texts:
            if "\0" in text:
                raise ConfigError(f"{what}: {text[:100]!r} has a NUL byte")


def argv(container: Object, image: Object, env: Mapping[str, str]) -> List[str]:
    """Return the container's command line. `command` replaces the image's entrypoint and, unless `args` are given, its arguments."""
    command, arguments = container.get("command") or [], container.get("args") or []
    if command:
        chosen = [*command, *arguments]
    else:
        chosen = [*(image.get("Entrypoint") or []), *(arguments or image.get("Cmd") or [])]
    if not chosen:
        raise ConfigError("no command specified")
    own = {*command, *arguments}
    return [expand(word, env) if word in own else word for word in chosen]


def environment(pod: Object, container: Object, image: Object, env: Mapping[str, str]) -> List[str]:
    """Return the variables. The pod's win over the image's, which win over the machine's defaults."""
    values: Dict[str, str] = {"PATH": DEFAULT_PATH, "HOSTNAME": hostname_of(pod)}
    if container.get("tty"):
        values["TERM"] = "xterm"
    for entry in image.get("Env") or ():
        name, _, value = entry.partition("=")
        values[name] = value
    values.update(env)
    return [f"{name}={value}" for name, value in values.items()]


def capabilities(asked: Object) -> List[str]:
    """Return the usual set, less `drop`, plus `add`. ALL means every capability."""
    drop = {_capability(each) for each in asked.get("drop") or ()}
    add = [_capability(each) for each in asked.get("add") or ()]
    kept = [] if "CAP_ALL" in drop else [each for each in DEFAULT_CAPABILITIES if each not in drop]
    if "CAP_ALL" in add:
        return [each for each in ALL_CAPABILITIES if each not in drop or each in add]
    return sorted({*kept, *add} & set(ALL_CAPABILITIES))


def sysctls(pod: Object) -> List[Tuple[str, str]]:
    """Return the pod's sysctls. Raises ConfigError for one outside of the pod's namespaces, because crun 1.8 writes any, and the kernel may be the host's."""
    outside = forbidden_sysctl(pod)
    if outside:
        raise ConfigError(f'forbidden sysctl: "{outside}" is not of a namespace that the pod has of its own')
    return [(_dotted(each["name"]), each["value"]) for each in _asked_sysctls(pod)]


def forbidden_sysctl(pod: Object) -> str:
    """Return the name of the pod's first sysctl that is not of a namespace which the pod has of its own, or ""."""
    spec = pod["spec"]
    own = (*(() if spec.get("hostIPC") else _OF_IPC), *(() if spec.get("hostNetwork") else ("net.",)))
    names = [each["name"] for each in _asked_sysctls(pod)]
    return next((name for name in names if not _dotted(name).startswith(own) or ".." in _dotted(name)), "")


def _asked_sysctls(pod: Object) -> List[Object]:
    return (pod["spec"].get("securityContext") or {}).get("sysctls") or []


def _dotted(name: str) -> str:
    return name.replace("/", ".")


def seccomp_profile(context: Object, pod_context: Object, default: bool) -> str:
    """Return the container's profile, else its pod's, else the machine's default. A privileged container has none. Raises ConfigError for Localhost."""
    if context.get("privileged"):
        return UNCONFINED
    asked = context.get("seccompProfile") or pod_context.get("seccompProfile") or {}
    kind = asked.get("type") or (RUNTIME_DEFAULT if default else UNCONFINED)
    if kind not in (RUNTIME_DEFAULT, UNCONFINED):
        raise ConfigError(f"seccomp profiles of type {kind} are not supported: use RuntimeDefault or Unconfined")
    return str(kind)


def _capability(name: str) -> str:
    name = name.upper()
    return name if name.startswith("CAP_") else "CAP_" + name


def _cpu_shares(container: Object) -> int:
    resources = container.get("resources") or {}
    asked = (resources.get("requests") or {}).get("cpu") or (resources.get("limits") or {}).get("cpu")
    return max(2, min(MOST_CPU_SHARES, quantities.milli(asked) * 1024 // 1000))


def _cpu_quota(resources: Object) -> int:
    limit = (resources.get("limits") or {}).get("cpu")
    return max(1000, quantities.milli(limit) * 100) if limit else 0


def _memory_request(container: Object) -> int:
    resources = container.get("resources") or {}
    return quantities.whole((resources.get("requests") or {}).get("memory") or (resources.get("limits") or {}).get("memory"))


def _memory_limit(container: Object) -> int:
    limit = quantities.whole(((container.get("resources") or {}).get("limits") or {}).get("memory"))
    return limit if limit < NO_MEMORY_LIMIT_BYTES else 0


# -- mounts


def _sub_path(asked: Object, env: Mapping[str, str]) -> str:
    """Return which part of a volume a mount shows, "" for all of it. Raises ConfigError, also for a variable that is not there or says nothing."""
    expression = asked.get("subPathExpr") or ""
    missing = sorted({name for name in referenced(expression) if not env.get(name)})
    if missing:
        raise ConfigError(f"missing value for {', '.join(missing)}")
    below = expand(expression, env) or asked.get("subPath") or ""
    if below.startswith("/"):
        raise ConfigError(f"error SubPath `{below}` must not be an absolute path")
    if ".." in below.split("/"):
        raise ConfigError(f"unable to provision SubPath `{below}`: must not contain '..'")
    return below


def mounts_of(
    container: Object,
    paths: Mapping[str, str],
    files: Sequence[Mount],
    env: Mapping[str, str],
    message: Tuple[str, str],
    read_only: Collection[str] = (),
    recursive: bool = True,
) -> List[Mount]:
    """Return the container's own mounts, the pod's files where it has none of its own, and its termination message file (source, target).

    `read_only` names volumes that no container may write to; `recursive`: this machine can keep all below a mount from being written. Raises ConfigError.
    """
    own = []
    for asked in container.get("volumeMounts") or ():
        if asked["name"] not in paths:
            raise ConfigError(f"volume {asked['name']} is not there")
        below = _sub_path(asked, env)
        ro, all_below = bool(asked.get("readOnly")) or asked["name"] in read_only, mountmodes.is_recursive(asked, recursive)
        told = mountmodes.propagation(asked)
        own.append(Mount(paths[asked["name"]], asked["mountPath"], ro, all_below, below=below, propagation=told))
    taken = {os.path.normpath(each.target) for each in own}
    rest = [*files, Mount(message[0], message[1])] if message[0] else list(files)
    return sorted([*own, *(each for each in rest if each.target not in taken)], key=lambda mount: mount.target.count("/"))
