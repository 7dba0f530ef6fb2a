"""RBAC through the API: nothing without a binding, what its role says with one, from the moment of its write to that of its deletion."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.inprocess import ApiServer

RBAC = "/apis/rbac.authorization.k8s.io/v1"
ROLES, BINDINGS = f"{RBAC}/namespaces/default/roles", f"{RBAC}/namespaces/default/rolebindings"
CLUSTER_ROLES, CLUSTER_BINDINGS = f"{RBAC}/clusterroles", f"{RBAC}/clusterrolebindings"
PODS = "/api/v1/namespaces/default/pods"
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
GROUP = "rbac.authorization.k8s.io"
ALICE = {"kind": "User", "apiGroup": GROUP, "name": "alice"}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with ApiServer.running(tmp_path, controllers=True) as api:
        yield api


async def send(api: ApiServer, method: str, path: str, body: Any = None, who: str = "", content: str = "") -> tuple[int, dict[str, Any]]:
    """As the admin, or as a user whose certificate says that name."""
    headers = {"Content-Type": content} if content else {}
    session = api.session(api.authority.issue(who)) if who else api.session()
    async with session as http, http.request(method, path, json=body, headers=headers) as answered:
        return answered.status, await answered.json(content_type=None)


async def made(api: ApiServer, path: str, name: str, who: str = "", **body: Any) -> tuple[int, dict[str, Any]]:
    return await send(api, "POST", path, {"metadata": {"name": name}, **body}, who)


def rule(verbs: str, resources: str, group: str = "", **more: Any) -> dict[str, Any]:
    return {"verbs": verbs.split(), "apiGroups": [group], "resources": resources.split(), **more}


def refers_to(name: str, kind: str = "Role") -> dict[str, Any]:
    return {"apiGroup": GROUP, "kind": kind, "name": name}


async def bound(api: ApiServer, *rules: dict[str, Any], subject: dict[str, Any] = ALICE) -> None:
    assert (await made(api, ROLES, "some", rules=list(rules)))[0] == 201
    assert (await made(api, BINDINGS, "some", roleRef=refers_to("some"), subjects=[subject]))[0] == 201


async def test_a_binding_counts_at_once_and_ends_at_once(api: ApiServer) -> None:
    code, said = await send(api, "GET", PODS, who="alice")
    assert code == 403
    assert said["message"] == 'pods is forbidden: User "alice" cannot list resource "pods" in API group "" in the namespace "default"'
    await bound(api, rule("get list", "pods"))
    assert (await send(api, "GET", PODS, who="alice"))[0] == 200
    assert (await send(api, "GET", "/api/v1/pods", who="alice"))[0] == 403
    assert (await send(api, "GET", "/api/v1/namespaces/kube-system/pods", who="alice"))[0] == 403
    assert (await send(api, "GET", PODS, who="bob"))[0] == 403
    await send(api, "PATCH", f"{BINDINGS}/some", {"subjects": [{**ALICE, "name": "bob"}]}, content="application/merge-patch+json")
    assert (await send(api, "GET", PODS, who="alice"))[0] == 403
    assert (await send(api, "GET", PODS, who="bob"))[0] == 200
    await send(api, "DELETE", f"{BINDINGS}/some")
    assert (await send(api, "GET", PODS, who="bob"))[0] == 403


async def test_a_role_that_changes_or_goes(api: ApiServer) -> None:
    await bound(api, rule("list", "pods"))
    await send(api, "PATCH", f"{ROLES}/some", {"rules": [rule("list", "secrets")]}, content="application/merge-patch+json")
    assert (await send(api, "GET", PODS, who="alice"))[0] == 403
    await send(api, "DELETE", f"{ROLES}/some")
    assert (await send(api, "GET", "/api/v1/namespaces/default/secrets", who="alice"))[0] == 403


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/api/v1/namespaces/default", True),
        ("GET", "/api/v1/namespaces/kube-system", False),
        ("GET", "/api/v1/namespaces", False),
        ("GET", f"{PODS}/a/log", True),
        ("GET", f"{PODS}/a", False),
        ("GET", "/api/v1/namespaces/default/configmaps/named", True),
        ("GET", "/api/v1/namespaces/default/configmaps/other", False),
        ("GET", "/api/v1/namespaces/default/configmaps", False),
        ("PUT", "/apis/apps/v1/namespaces/default/deployments/d/scale", True),
        ("PUT", "/apis/apps/v1/namespaces/default/deployments/d", False),
        ("GET", "/metrics", False),
        ("GET", "/apis", True),
        ("GET", "/labctl/v1/health", False),
    ],
)
async def test_what_rules_mean(api: ApiServer, method: str, path: str, allowed: bool) -> None:
    await bound(
        api,
        rule("get", "namespaces pods/log"),
        rule("get", "configmaps", resourceNames=["named"]),
        rule("update", "*/scale", "apps"),
    )
    code, said = await send(api, method, path, {} if method == "PUT" else None, who="alice")
    assert (code != 403) == allowed, said


@pytest.mark.parametrize(
    ("selector", "allowed"),
    [
        ("metadata.name=named", True),
        ("metadata.name==named,metadata.namespace=default", True),
        ("metadata.name=other", False),
        ("metadata.name!=other", False),
        ("metadata.namespace=default", False),
        ("metadata.name=named/..", False),
        ("metadata.name", False),
        ("", False),
    ],
)
async def test_a_rule_with_names_allows_lists_and_watches_of_one_name(api: ApiServer, selector: str, allowed: bool) -> None:
    await bound(api, rule("list watch", "configmaps", resourceNames=["named"]))
    query = urlencode({"fieldSelector": selector, "timeoutSeconds": 1})
    for watch in ("", "&watch=true"):
        code, said = await send(api, "GET", f"{CONFIG_MAPS}?{query}{watch}", who="alice")
        assert (code == 200) == allowed, said
    if selector == "metadata.name=other":
        assert said["message"].startswith('configmaps "other" is forbidden: User "alice" cannot watch resource "configmaps"')
    assert (await send(api, "DELETE", f"{CONFIG_MAPS}?{query}", who="alice"))[0] == 403


async def test_groups_and_service_accounts_and_cluster_roles(api: ApiServer) -> None:
    everybody = {"kind": "Group", "apiGroup": GROUP, "name": "system:authenticated"}
    code, said = await made(api, CLUSTER_BINDINGS, "all", roleRef=refers_to("view", "ClusterRole"), subjects=[everybody])
    assert code == 201, said
    assert (await send(api, "GET", "/api/v1/pods", who="anybody"))[0] == 200
    assert (await send(api, "GET", "/api/v1/secrets", who="anybody"))[0] == 403, "view shows no Secrets"


async def test_a_service_account_without_a_namespace_is_one_of_the_bindings_own(api: ApiServer) -> None:
    code, said = await made(
        api, BINDINGS, "own", roleRef=refers_to("view", "ClusterRole"), subjects=[{"kind": "ServiceAccount", "name": "robot"}]
    )
    assert code == 201, said
    assert (await send(api, "GET", PODS, who="system:serviceaccount:default:robot"))[0] == 200
    assert (await send(api, "GET", PODS, who="system:serviceaccount:other:robot"))[0] == 403


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        (ROLES, {"rules": [{"verbs": [], "apiGroups": [""], "resources": ["pods"]}]}, "rules[0].verbs: Required value"),
        (ROLES, {"rules": [{"verbs": ["get"], "resources": ["pods"]}]}, "rules[0].apiGroups: Required value"),
        (ROLES, {"rules": [{"verbs": ["get"], "nonResourceURLs": ["/x"]}]}, "namespaced rules cannot apply to non-resource URLs"),
        (BINDINGS, {"roleRef": {"kind": "Other", "name": "x", "apiGroup": GROUP}}, 'roleRef.kind: Unsupported value: "Other"'),
        (CLUSTER_BINDINGS, {"roleRef": {"kind": "Role", "name": "x", "apiGroup": GROUP}}, 'roleRef.kind: Unsupported value: "Role"'),
        (
            CLUSTER_BINDINGS,
            {"roleRef": {"kind": "ClusterRole", "name": "x"}, "subjects": [{"kind": "ServiceAccount", "name": "a"}]},
            "namespace: Required",
        ),
    ],
)
async def test_what_is_no_role_and_no_binding(api: ApiServer, path: str, body: dict[str, Any], words: str) -> None:
    code, said = await made(api, path, "x", **body)
    assert code == 422 and words in said["message"], said


async def test_a_binding_keeps_its_role(api: ApiServer) -> None:
    await bound(api, rule("get", "pods"))
    patch = {"roleRef": refers_to("other")}
    code, said = await send(api, "PATCH", f"{BINDINGS}/some", patch, content="application/merge-patch+json")
    assert code == 422 and "cannot change roleRef" in said["message"]


# -- nobody gives away more than they hold


async def test_escalation(api: ApiServer) -> None:
    await bound(api, rule("create update patch", "roles rolebindings", GROUP), rule("get list", "pods"))
    assert (await made(api, ROLES, "less", "alice", rules=[rule("get", "pods")]))[0] == 201
    code, said = await made(api, ROLES, "more", "alice", rules=[rule("get delete", "pods secrets")])
    assert code == 403
    assert said["message"] == (
        'roles.rbac.authorization.k8s.io "more" is forbidden: user "alice" (groups=["system:authenticated"]) is attempting to grant '
        'RBAC permissions not currently held:\n{APIGroups:[""], Resources:["pods"], Verbs:["delete"]}\n'
        '{APIGroups:[""], Resources:["secrets"], Verbs:["get" "delete"]}'
    )
    assert (await made(api, BINDINGS, "less", "alice", roleRef=refers_to("less"), subjects=[ALICE]))[0] == 201
    code, said = await made(api, BINDINGS, "admin", "alice", roleRef=refers_to("cluster-admin", "ClusterRole"), subjects=[ALICE])
    assert code == 403 and "is attempting to grant RBAC permissions not currently held" in said["message"]
    code, said = await made(api, BINDINGS, "none", "alice", roleRef=refers_to("not-there"), subjects=[ALICE])
    assert code == 404, "a role that is made later may say anything"
    patch = {"rules": [rule("*", "*", "*")]}
    assert (await send(api, "PATCH", f"{ROLES}/less", patch, "alice", "application/merge-patch+json"))[0] == 403


async def test_escalate_and_bind_are_verbs(api: ApiServer) -> None:
    await bound(
        api,
        rule("create", "roles rolebindings", GROUP),
        rule("escalate", "roles", GROUP),
        rule("bind", "clusterroles", GROUP, resourceNames=["admin"]),
    )
    assert (await made(api, ROLES, "more", "alice", rules=[rule("*", "secrets")]))[0] == 201
    assert (await made(api, BINDINGS, "ok", "alice", roleRef=refers_to("admin", "ClusterRole"), subjects=[ALICE]))[0] == 201
    assert (await made(api, BINDINGS, "no", "alice", roleRef=refers_to("cluster-admin", "ClusterRole"), subjects=[ALICE]))[0] == 403


async def test_a_rule_that_is_enormous_is_refused_quickly(api: ApiServer) -> None:
    await bound(api, rule("create", "roles", GROUP))
    many = [str(number) for number in range(3000)]
    huge = {"verbs": many, "apiGroups": many, "resources": many, "resourceNames": many}
    assert (await made(api, ROLES, "huge", "alice", rules=[huge]))[0] == 403


# -- what kubectl asks


async def test_kubectl(api: ApiServer) -> None:
    steps = (
        ("create", "serviceaccount", "robot"),
        ("create", "role", "reader", "--verb=get,list", "--resource=pods,deployments.apps"),
        ("create", "rolebinding", "robots", "--role=reader", "--serviceaccount=default:robot"),
    )
    for step in steps:
        ran = await api.kubectl(*step)
        assert ran.code == 0, ran.err
    robot = ("--as", "system:serviceaccount:default:robot")
    assert (await api.kubectl("auth", "can-i", "list", "pods", *robot)).out == "yes\n"
    assert (await api.kubectl("auth", "can-i", "delete", "pods", *robot)).out == "no\n"
    listed = (await api.kubectl("auth", "can-i", "--list", *robot)).out
    assert "deployments.apps" in listed and "[get list]" in listed and "/openapi/*" in listed
    assert (await api.kubectl("get", "deployments", *robot)).code == 0
    denied = await api.kubectl("get", "secrets", *robot)
    assert 'User "system:serviceaccount:default:robot" cannot list resource "secrets"' in denied.err
    described = (await api.kubectl("describe", "rolebinding", "robots")).out
    assert "ServiceAccount  robot  default" in described
    assert "Role/reader" in (await api.kubectl("get", "rolebinding", "-o", "wide")).out


async def test_reconcile(api: ApiServer) -> None:
    role = {"apiVersion": f"{GROUP}/v1", "kind": "Role", "metadata": {"name": "r", "namespace": "default"}, "rules": [rule("get", "pods")]}
    assert (await api.kubectl("auth", "reconcile", "-f", "-", stdin=role)).code == 0
    more = {**role, "rules": [rule("list", "secrets")]}
    ran = await api.kubectl("auth", "reconcile", "-f", "-", stdin=more)
    assert ran.code == 0, ran.err
    _, now = await send(api, "GET", f"{ROLES}/r")
    assert now["rules"] == [rule("get", "pods"), rule("list", "secrets")], "reconcile adds, and takes nothing away"


async def test_reviews_about_others(api: ApiServer) -> None:
    await bound(api, rule("get", "pods"))
    wanted = {"verb": "get", "resource": "pods", "namespace": "default"}
    group = "/apis/authorization.k8s.io/v1"
    _, said = await send(api, "POST", f"{group}/subjectaccessreviews", {"spec": {"user": "alice", "resourceAttributes": wanted}})
    assert said["status"] == {"allowed": True, "reason": 'RBAC: allowed by RoleBinding "some/default" of Role "some" to User "alice"'}
    local = f"{group}/namespaces/default/localsubjectaccessreviews"
    _, said = await send(api, "POST", local, {"spec": {"user": "bob", "resourceAttributes": wanted}})
    assert said["status"] == {"allowed": False}
    code, said = await send(api, "POST", local, {"spec": {"user": "bob", "resourceAttributes": {**wanted, "namespace": "other"}}})
    assert code == 422 and "must match metadata.namespace" in said["message"]
    code, _ = await send(api, "POST", f"{group}/subjectaccessreviews", {"spec": {"user": "alice", "resourceAttributes": wanted}}, "alice")
    assert code == 403


async def test_impersonation_is_a_verb(api: ApiServer) -> None:
    await bound(api, rule("impersonate", "serviceaccounts", resourceNames=["robot"]))
    async with api.session(api.authority.issue("alice")) as http:
        for name, code in (("default:robot", 403), ("default:other", 403)):
            headers = {"Impersonate-User": f"system:serviceaccount:{name}"}
            async with http.get(PODS, headers=headers) as answered:
                said = (await answered.json())["message"]
                assert answered.status == code
                assert ("cannot list" in said) == name.endswith("robot"), said
        async with http.get(PODS, headers={"Impersonate-User": "x", "Impersonate-Group": "system:masters"}) as answered:
            assert answered.status == 403


# -- what every lab has


async def rules_of(api: ApiServer, name: str) -> list[dict[str, Any]]:
    _, role = await send(api, "GET", f"{CLUSTER_ROLES}/{name}")
    found: list[dict[str, Any]] = role.get("rules") or []
    return found


async def test_admin_edit_and_view_take_up_what_a_label_gives_them(api: ApiServer) -> None:
    mine = rule("get", "gadgets", "example.com")
    labels = {"rbac.authorization.k8s.io/aggregate-to-view": "true"}
    assert (await send(api, "POST", CLUSTER_ROLES, {"metadata": {"name": "gadgets", "labels": labels}, "rules": [mine]}))[0] == 201
    for name in ("view", "edit", "admin"):
        await until(api, name, mine, there=True)
    await send(api, "DELETE", f"{CLUSTER_ROLES}/gadgets")
    for name in ("view", "edit", "admin"):
        await until(api, name, mine, there=False)


async def until(api: ApiServer, name: str, wanted: dict[str, Any], *, there: bool) -> None:
    watching = api.resources.watch(api.resources.registry["clusterroles.rbac.authorization.k8s.io"], "")
    try:
        while (wanted in await rules_of(api, name)) is not there:
            await anext(watching)
    finally:
        await watching.aclose()


async def test_each_namespace_has_a_service_account_and_the_labs_certificate(api: ApiServer) -> None:
    await api.kubectl("create", "namespace", "fresh")
    for resource, name in (("serviceaccounts", "default"), ("configmaps", "kube-root-ca.crt")):
        ran = await api.kubectl("wait", "--for=create", f"{resource}/{name}", "-n", "fresh", "--timeout=10s")
        assert ran.code == 0, ran.err
    code, found = await send(api, "GET", "/api/v1/namespaces/fresh/configmaps/kube-root-ca.crt")
    assert code == 200 and found["data"]["ca.crt"] == api.authority.certificate_pem.decode()
    await send(api, "DELETE", "/api/v1/namespaces/fresh/serviceaccounts/default")
    ran = await api.kubectl("wait", "--for=create", "serviceaccounts/default", "-n", "fresh", "--timeout=10s")
    assert ran.code == 0, ran.err


@pytest.mark.parametrize(
    ("role", "verb", "resource", "may"),
    [
        ("edit", "patch", "pods/resize", True),
        ("admin", "update", "pods/resize", True),
        ("view", "patch", "pods/resize", False),
        ("system:kube-scheduler", "create", "pods/binding", True),
        ("system:kube-scheduler", "get", "secrets", False),
        ("system:volume-scheduler", "update", "persistentvolumes", True),
        ("system:node-problem-detector", "patch", "nodes/status", True),
    ],
)
async def test_the_default_roles_are_kubernetes(role: str, verb: str, resource: str, may: bool, tmp_path: Path) -> None:
    async with ApiServer.running(tmp_path) as api:
        reference = {"apiGroup": GROUP, "kind": "ClusterRole", "name": role}
        assert (await made(api, CLUSTER_BINDINGS, "alice", roleRef=reference, subjects=[ALICE]))[0] == 201
        name, _, subresource = resource.partition("/")
        asked = {"verb": verb, "resource": name, "subresource": subresource, "namespace": "default"}
        body = {"spec": {"user": "alice", "resourceAttributes": asked}}
        _, said = await send(api, "POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", body)
        assert said["status"]["allowed"] is may


KUBERNETES_OWN = [
    ("system:kube-scheduler", "list", "storage.k8s.io", "csinodes", True),
    ("system:kube-scheduler", "update", "resource.k8s.io", "resourceclaims/status", True),
    ("system:kube-scheduler", "create", "", "pods/binding", True),
    ("system:kube-scheduler", "update", "", "persistentvolumes", True),
    ("system:kube-scheduler", "list", "coordination.k8s.io", "leases", False),
    ("system:kube-controller-manager", "watch", "apps", "deployments", True),
    ("system:kube-controller-manager", "delete", "", "pods", False),
    ("system:kube-proxy", "watch", "networking.k8s.io", "servicecidrs", True),
    ("system:kube-proxy", "create", "events.k8s.io", "events", True),
    ("system:serviceaccount:kube-system:kube-dns", "watch", "", "services", True),
    ("system:node:nobody", "list", "", "secrets", False),  # the role system:node is bound to nobody
]


@pytest.mark.parametrize(("who", "verb", "group", "resource", "allowed"), KUBERNETES_OWN)
async def test_the_default_roles_are_bound_to_the_parts_of_kubernetes(
    api: ApiServer, who: str, verb: str, group: str, resource: str, allowed: bool
) -> None:
    name, _, subresource = resource.partition("/")
    about = {"verb": verb, "group": group, "resource": name, "subresource": subresource}
    body = {"spec": {"user": who, "groups": ["system:authenticated"], "resourceAttributes": about}}
    code, said = await send(api, "POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", body)
    assert (code, said["status"].get("allowed", False)) == (201, allowed)


async def test_claims_of_devices_are_edited_and_viewed_as_other_objects_of_a_namespace(api: ApiServer) -> None:
    for role, verb, resource, allowed in (
        ("view", "list", "resourceclaims", True),
        ("view", "get", "resourceclaims/status", True),
        ("view", "create", "resourceclaims", False),
        ("edit", "create", "resourceclaimtemplates", True),
        ("admin", "delete", "resourceclaims", True),
    ):
        _, said = await send(api, "GET", f"{CLUSTER_ROLES}/{role}")
        given = [
            one
            for one in said["rules"]
            if one["apiGroups"] == ["resource.k8s.io"] and resource in one["resources"] and verb in one["verbs"]
        ]
        assert bool(given) == allowed, (role, verb, resource)
