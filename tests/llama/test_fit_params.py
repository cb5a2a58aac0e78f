"""What llama.cpp's own tool is asked, and what it answers."""

from pathlib import Path

from supervisor.llama.fit_params import DeviceFit, fit_params_words, read_fit_params
from supervisor.llama.settings import Settings

MIB = 1 << 20


def test_a_line_is_a_device_in_mebibytes_and_all_else_is_passed_over() -> None:
    lines = [
        "warning: no usable GPU",
        "",
        "CUDA0 4685 448 258",
        "Vulkan 1 2 3 4",
        "Host 281 0 16 ",
        "a b c d",
    ]
    assert read_fit_params(lines) == (
        DeviceFit("CUDA0", 4685 * MIB, 448 * MIB, 258 * MIB),
        DeviceFit("Vulkan 1", 2 * MIB, 3 * MIB, 4 * MIB),
        DeviceFit("Host", 281 * MIB, 0, 16 * MIB),
    )
    assert read_fit_params(["Host 1 2", "Host -1 2 3", f"Host {'9' * 99} 1 1"]) == ()


def test_it_is_asked_about_the_settings_that_were_chosen() -> None:
    chosen = Settings(n_gpu_layers=33, ctx=8192, slots=2, cache_k="q8_0", cpu_moe_layers=3, shares=(3.0, 1.0))
    assert fit_params_words("fit", Path("/m.gguf"), chosen) == [
        *("fit", "-m", "/m.gguf", "-fitp", "on", "-fit", "off", "-c", "8192", "-ngl", "33"),
        *("-b", "2048", "-ub", "512", "-np", "2", "-ctk", "q8_0", "-ctv", "f16"),
        *("--n-cpu-moe", "3", "-ts", "3,1"),
    ]
