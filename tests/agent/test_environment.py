import asyncio
import base64

import pytest

from labctl.agent.environment import ConfigError, PodFacts, build, expand, of_services, pod_field

FACTS = PodFacts("10.246.1.2", "10.245.1.11", {"cpu": "2", "memory": "1Gi"})


def pod(**container):
    return {
        "metadata": {"name": "web", "namespace": "default", "uid": "u1", "labels": {"app": "x", "b": 'say "y"'}},
        "spec": {"nodeName": "minion-1", "containers": [{"name": "c", "image": "i", **container}]},
    }


async def made(objects=None, services=None, volumes=None, **container):
    async def fetch(kind, namespace, name):
        return (objects or {}).get((kind, name))

    the_pod = pod(**container)
    return await build(the_pod, the_pod["spec"]["containers"][0], FACTS, fetch, services or {}, volumes or {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [("$(A)-$(B)", "1-$(B)"), ("$$(A)", "$(A)"), ("$A $(", "$A $("), ("$$$(A)", "$1"), ("cost: 5$", "cost: 5$")],
)
def test_expansion_knows_what_was_defined_and_leaves_the_rest(text, expected):
    assert expand(text, {"A": "1"}) == expected


async def test_a_variable_sees_only_those_before_it():
    env = await made(env=[{"name": "A", "value": "$(B)"}, {"name": "B", "value": "b"}, {"name": "C", "value": "$(B)!"}])
    assert env == {"A": "$(B)", "B": "b", "C": "b!"}


async def test_config_maps_and_secrets_whole_and_by_key():
    objects = {
        ("configmaps", "cm"): {"data": {"a": "1", "9bad": "x"}, "binaryData": {"bin": base64.b64encode(b"z").decode()}},
        ("secrets", "s"): {"data": {"pw": base64.b64encode(b"hush").decode()}},
    }
    env = await made(
        objects,
        envFrom=[{"configMapRef": {"name": "cm"}, "prefix": "P_"}, {"secretRef": {"name": "gone", "optional": True}}],
        env=[{"name": "PW", "valueFrom": {"secretKeyRef": {"name": "s", "key": "pw"}}}],
    )
    assert env == {"P_a": "1", "P_9bad": "x", "PW": "hush"}


async def test_keys_become_variables_by_whatever_name_but_for_binary_ones():
    found = {("configmaps", "cm"): {"data": {"9.a-b": "1"}, "binaryData": {"bin": base64.b64encode(b"z").decode()}}}
    for prefix in ("", "odd name ", "1"):
        assert await made(found, envFrom=[{"configMapRef": {"name": "cm"}, "prefix": prefix}]) == {f"{prefix}9.a-b": "1"}
    with pytest.raises(ConfigError, match="couldn't find key bin in ConfigMap default/cm"):
        await made(found, env=[{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "bin"}}}])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"configMapKeyRef": {"name": "gone", "key": "a"}}, 'configmap "gone" not found'),
        ({"secretKeyRef": {"name": "gone", "key": "a"}}, 'secret "gone" not found'),
        ({"configMapKeyRef": {"name": "cm", "key": "b"}}, "couldn't find key b in ConfigMap default/cm"),
        ({"fieldRef": {"fieldPath": "spec.containers"}}, "unsupported fieldPath"),
    ],
)
async def test_what_is_missing_is_said_in_the_kubelets_words(source, message):
    with pytest.raises(ConfigError, match=message):
        await made({("configmaps", "cm"): {"data": {"a": "1"}}}, env=[{"name": "X", "valueFrom": source}])


async def test_an_optional_key_that_is_missing_is_left_out():
    env = await made(env=[{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "gone", "key": "a", "optional": True}}}])
    assert env == {}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "web"),
        ("metadata.labels['app']", "x"),
        ("metadata.annotations['none']", ""),
        ("metadata.labels", 'app="x"\nb="say \\"y\\""'),
        ("spec.nodeName", "minion-1"),
        ("status.podIP", "10.246.1.2"),
        ("status.hostIP", "10.245.1.11"),
    ],
)
def test_the_pods_own_fields(path, value):
    assert pod_field(pod(), path, FACTS) == value


async def test_resources_are_divided_and_rounded_up_and_fall_back_to_the_node():
    def ref(resource, **more):
        return {"name": resource.replace(".", "_"), "valueFrom": {"resourceFieldRef": {"resource": resource, **more}}}

    env = await made(
        resources={"limits": {"cpu": "1500m"}, "requests": {"memory": "10Mi"}},
        env=[ref("limits.cpu"), ref("limits.memory", divisor="1Mi"), ref("requests.memory"), ref("requests.cpu", divisor="1m")],
    )
    assert env == {"limits_cpu": "2", "limits_memory": "1024", "requests_memory": str(10 << 20), "requests_cpu": "1500"}


async def test_services_are_there_and_the_pods_own_words_win():
    services = of_services([{"metadata": {"name": "my-web"}, "spec": {"clusterIP": "10.247.0.9", "ports": [{"name": "http", "port": 80}]}}])
    env = await made(
        services=services, env=[{"name": "MY_WEB_SERVICE_HOST", "value": "elsewhere"}, {"name": "U", "value": "$(MY_WEB_PORT)"}]
    )
    assert env["MY_WEB_SERVICE_HOST"] == "elsewhere"
    assert (env["MY_WEB_SERVICE_PORT_HTTP"], env["U"], env["MY_WEB_PORT_80_TCP_ADDR"]) == ("80", "tcp://10.247.0.9:80", "10.247.0.9")


def test_headless_services_have_no_variables():
    assert of_services([{"metadata": {"name": "h"}, "spec": {"clusterIP": "None", "ports": [{"port": 80}]}}]) == {}


def from_file(key="A", path="all.env", **source):
    return {"name": "X", "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": path, "key": key, **source}}}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A='1'", "1"),
        ("# A='0'\n\n  A = 'one # two'  \nB='2'\n", "one # two"),
        ("M='line1\nA=2'\nA='\\n$B \"'", '\\n$B "'),
        ("A=''", ""),
    ],
)
async def test_a_variable_from_a_file_of_a_volume(tmp_path, text, value):
    (tmp_path / "all.env").write_text(text)
    assert await made(env=[from_file()], volumes={"v": str(tmp_path)}) == {"X": value}


@pytest.mark.parametrize("text", ["A=1", 'A="1"', "A='1''2'", "A='1'$B", "A='1", "A", "='1'", "B=1\nA='1'"])
async def test_a_file_of_another_form_starts_no_container(tmp_path, text):
    (tmp_path / "all.env").write_text(text)
    with pytest.raises(ConfigError, match="couldn't parse env file: invalid environment variable format at line 1"):
        await made(env=[from_file(optional=True)], volumes={"v": str(tmp_path)})


async def test_a_file_full_of_blanks_is_read_at_once(tmp_path):
    (tmp_path / "all.env").write_text("A" + " " * 500_000)
    with pytest.raises(ConfigError, match="at line 1"):
        await asyncio.wait_for(made(env=[from_file()], volumes={"v": str(tmp_path)}), 10)


async def test_what_no_file_says_is_left_out_only_where_it_may_be(tmp_path):
    (tmp_path / "all.env").write_text("B='2'")
    for source in ({}, {"path": "none.env"}):
        assert await made(env=[from_file(optional=True, **source)], volumes={"v": str(tmp_path)}) == {}
        with pytest.raises(ConfigError, match='environment variable key "A" not found in file'):
            await made(env=[from_file(**source)], volumes={"v": str(tmp_path)})


async def test_a_file_outside_of_its_volume_is_not_read(tmp_path):
    (tmp_path / "secret.env").write_text("A='1'")
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume" / "all.env").symlink_to(tmp_path / "secret.env")
    for path in ("all.env", "../secret.env"):
        with pytest.raises(ConfigError, match="couldn't parse env file"):
            await made(env=[from_file(path=path)], volumes={"v": str(tmp_path / "volume")})
