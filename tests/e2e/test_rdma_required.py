"""Where an EFA is on the PCI bus, falling back to tcp has to be asked for; its counters are in /metrics."""
import os
import subprocess

import pytest

from cluster import BATON, SMOLLM2, Server, http


@pytest.fixture
def efa_root(tmp_path):
    """A folder like / of a machine with one EFA."""
    device = tmp_path / "sys/devices/pci0000:10/0000:10:1b.0"
    port = device / "infiniband/rdmap16s27/ports/1"
    (port / "hw_counters").mkdir(parents=True)
    for name, text in {"class": "0x020000", "vendor": "0x1d0f", "device": "0xefa2", "numa_node": "0"}.items():
        (device / name).write_text(text + "\n")
    (port / "state").write_text("4: ACTIVE\n")
    (port / "rate").write_text("200 Gb/sec (4X HDR)\n")
    (port / "hw_counters/rdma_write_bytes").write_text("4711\n")
    for link, target in {"sys/bus/pci/devices/0000:10:1b.0": device, "sys/class/infiniband/rdmap16s27": port.parents[1]}.items():
        (tmp_path / link).parent.mkdir(parents=True)
        (tmp_path / link).symlink_to(os.path.relpath(target, (tmp_path / link).parent))
    return tmp_path


def test_tcp_is_not_taken_silently(efa_root):
    done = subprocess.run([BATON, "serve", "--model-path", SMOLLM2, "--disaggregation-mode", "decode", "--port", "0", "--threads", "1",
                           "--kv-memory-mb", "64", "--sysfs-root", efa_root], capture_output=True, text=True, timeout=60)
    text = done.stdout + done.stderr
    assert done.returncode not in (0, None)
    assert "RDMA is required" in text and "--no-require-rdma" in text and "--transfer-provider tcp" in text, text[-800:]


@pytest.mark.parametrize("provider,flags", [("auto", ["--no-require-rdma"]), ("auto", ["--require-rdma=false"]), ("tcp", [])])
def test_tcp_may_be_asked_for(efa_root, tmp_path_factory, provider, flags):
    server = Server("decode", tmp_path_factory.mktemp("log"), mode="decode", provider=provider,
                    extra=[*flags, "--sysfs-root", efa_root])
    try:
        server.wait()
        text = http(server.url + "/metrics")[1]
        assert 'device="rdmap16s27",port="1"} 4711\n' in text
        assert "baton_transfer_info{" in text and 'rdma="no"' in text
        assert "nics=[rdmap16s27]" in server.log.read_text()
    finally:
        server.stop()


def test_one_server_needs_no_data_plane(efa_root, tmp_path_factory):
    server = Server("mono", tmp_path_factory.mktemp("log"), extra=["--sysfs-root", efa_root])
    try:
        server.wait()
    finally:
        server.stop()
