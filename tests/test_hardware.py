"""What a device computes natively, told from what the system says of it."""

import platform

import pytest
import torch

from robustbench_pcl import hardware
from robustbench_pcl.hardware import computes_bfloat16, processor

ZEN5 = "model name\t: AMD EPYC 9575F\nflags\t\t: fpu avx512f avx512_bf16 avx512_vnni\n"
SAPPHIRE = "model name\t: Intel Xeon\nflags\t\t: fpu avx512f amx_bf16 amx_tile\n"
GRAVITON3 = "processor\t: 0\nFeatures\t: fp asimd i8mm bf16 dgh\n"
SKYLAKE = "model name\t: Intel Skylake\nflags\t\t: fpu avx512f\nbugs\t\t: amx_bf16\n"
RASPBERRY = "processor\t: 0\nFeatures\t: fp asimd svebf16x\n"


@pytest.fixture(autouse=True)
def forgotten():
    computes_bfloat16.cache_clear()
    yield
    computes_bfloat16.cache_clear()


@pytest.mark.parametrize(
    ("text", "expected"),
    [(ZEN5, True), (SAPPHIRE, True), (GRAVITON3, True), (SKYLAKE, False), (RASPBERRY, False)],
)
def test_a_processor_computes_bfloat16_if_its_flags_say_so(monkeypatch, text, expected):
    monkeypatch.setattr(hardware, "_cpuinfo", lambda: text)
    assert computes_bfloat16(torch.device("cpu")) is expected


def test_where_the_system_tells_nothing_nothing_is_known(monkeypatch):
    monkeypatch.setattr(hardware, "_cpuinfo", lambda: "")
    assert not computes_bfloat16(torch.device("cpu"))
    assert not computes_bfloat16(torch.device("meta"))
    assert processor() == (platform.processor() or platform.machine())


def test_the_processor_is_named_by_its_model(monkeypatch):
    monkeypatch.setattr(hardware, "_cpuinfo", lambda: ZEN5)
    assert processor() == "AMD EPYC 9575F"


@pytest.mark.parametrize(
    ("capability", "expected"), [((7, 5), False), ((8, 0), True), ((10, 0), True)]
)
def test_an_accelerator_computes_it_from_ampere_on(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert computes_bfloat16(torch.device("cuda:1")) is expected
