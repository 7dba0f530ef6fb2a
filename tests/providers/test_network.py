from __future__ import annotations

from labctl.providers.namespace import network


def test_hardware_addresses_follow_from_addresses_and_differ() -> None:
    assert network.hardware_address("10.245.1.11") == "02:00:0a:f5:01:0b"
    assert len({network.hardware_address(f"10.245.1.{number}") for number in range(1, 211)}) == 210


def test_a_link_has_a_new_name_at_every_boot_and_fits_the_kernel() -> None:
    one, two = network.link_name(200, "0a1b2c3d-..."), network.link_name(200, "ffeeddcc-...")
    assert one != two
    assert len(one) <= 15
    assert one.startswith(network.link_prefix(200))
    assert not network.link_name(11, "0a1b2c").startswith(network.link_prefix(1))


def test_the_machines_end_is_named_in_its_own_namespace_only() -> None:
    made, attached = network.link_lines("m1-abc", "10.245.1.11", 1500, "/proc/self/fd/7")
    assert made == "link add m1-abc mtu 1500 type veth peer name eth0 mtu 1500 address 02:00:0a:f5:01:0b netns /proc/self/fd/7"
    assert attached.endswith("master lab0 up")
