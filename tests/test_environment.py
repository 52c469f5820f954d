"""What a device computes natively, told from what the system says of it, and how it is named."""

import os
import platform
import subprocess
import sys

import pytest
import torch

from robustbench_pcl import __version__, environment
from robustbench_pcl.environment import (
    computes_bfloat16,
    current_environment,
    has_accelerator,
    pick_device,
    processor,
)
from robustbench_pcl.errors import UserError

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


@pytest.fixture
def told(tmp_path, monkeypatch):
    """Let the system tell something else of the processor; nothing where that is ""."""

    def tell(text):
        file = tmp_path / "cpuinfo"
        if text:
            file.write_text(text)
        monkeypatch.setattr(environment, "CPUINFO", file)

    return tell


@pytest.mark.parametrize(
    ("text", "expected"),
    [(ZEN5, True), (SAPPHIRE, True), (GRAVITON3, True), (SKYLAKE, False), (RASPBERRY, False)],
)
def test_a_processor_computes_bfloat16_if_its_flags_say_so(told, text, expected):
    told(text)
    assert computes_bfloat16(torch.device("cpu")) is expected


def test_where_the_system_tells_nothing_nothing_is_known(told):
    told("")
    assert not computes_bfloat16(torch.device("cpu"))
    assert not computes_bfloat16(torch.device("meta"))
    assert processor() == (platform.processor() or platform.machine())


def test_the_processor_is_named_by_its_model(told):
    told(ZEN5)
    assert processor() == "AMD EPYC 9575F"


@pytest.mark.parametrize(
    ("capability", "expected"), [((7, 5), False), ((8, 0), True), ((10, 0), True)]
)
def test_an_accelerator_computes_it_from_ampere_on(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert computes_bfloat16(torch.device("cuda:1")) is expected


def test_an_environment_names_versions_and_device_but_not_the_machine():
    found = current_environment(torch.device("cpu"))
    assert (found.pclbench, found.torch) == (__version__, torch.__version__)
    assert found.python == platform.python_version()
    assert found.device == processor()
    assert found.threads == torch.get_num_threads()
    assert platform.node() not in found.model_dump_json()


def test_the_device_of_that_name():
    assert pick_device("cpu") == torch.device("cpu")
    assert (pick_device("auto").type == "cuda") == torch.cuda.is_available() == has_accelerator()


def test_convolutions_on_cuda_keep_all_bits_of_float32(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    assert pick_device("cpu").type == "cpu"
    assert torch.backends.cudnn.allow_tf32
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto").type == "cuda"
    assert not torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("name", ["cuda:99", "meta", "gpu", ""])
def test_a_device_that_is_not_there(name):
    with pytest.raises(UserError, match=f"There is no device '{name}' here") as raised:
        pick_device(name)
    assert "--device cpu" in raised.value.cure


def test_hidden_accelerators_are_not_found_and_torch_is_not_imported():
    code = (
        "import sys; from robustbench_pcl.environment import has_accelerator; "
        "print(has_accelerator(), 'torch' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == "False False\n"
