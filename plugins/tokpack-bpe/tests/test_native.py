"""The native tests under sanitizers and for other processors, and the fuzz targets for a while."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1]
FUZZ_SECONDS = 30


def build(folder, *options):
    if shutil.which("cmake") is None:
        pytest.skip("no cmake on the path")
    subprocess.run(["cmake", "-S", SOURCE, "-B", folder, "-DTOKPACK_BPE_PYTHON=OFF", *options], check=True)
    subprocess.run(["cmake", "--build", folder, "-j2"], check=True)


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("sanitizers", ["address,undefined", "thread"])
def test_native_tests_are_clean_under(sanitizers, tmp_path):
    build(tmp_path, "-DTOKPACK_BPE_TESTS=ON", f"-DTOKPACK_BPE_SANITIZE={sanitizers}")
    subprocess.run(["ctest", "--test-dir", tmp_path, "--output-on-failure"], check=True)


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_native_tests_pass_in_plain_cpp(tmp_path):
    build(tmp_path, "-DTOKPACK_BPE_TESTS=ON", "-DTOKPACK_BPE_SIMD=OFF")
    subprocess.run(["ctest", "--test-dir", tmp_path, "--output-on-failure"], check=True)


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_native_tests_pass_on_arm64(tmp_path):
    compiler, emulator = shutil.which("aarch64-linux-gnu-g++"), shutil.which("qemu-aarch64")
    if compiler is None or emulator is None:
        pytest.skip("needs aarch64-linux-gnu-g++ and qemu-aarch64")
    build(
        tmp_path,
        "-DTOKPACK_BPE_TESTS=ON",
        "-DCMAKE_SYSTEM_NAME=Linux",
        "-DCMAKE_SYSTEM_PROCESSOR=aarch64",
        f"-DCMAKE_CXX_COMPILER={compiler}",
        f"-DCMAKE_CROSSCOMPILING_EMULATOR={emulator};-L;/usr/aarch64-linux-gnu",
    )
    subprocess.run(["ctest", "--test-dir", tmp_path, "--output-on-failure"], check=True)


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_fuzz_targets_find_nothing(tmp_path):
    compiler = shutil.which("clang++")
    if compiler is None:
        pytest.skip("libFuzzer needs clang++")
    options = (f"-DCMAKE_CXX_COMPILER={compiler}", "-DTOKPACK_BPE_FUZZ=ON")
    build(tmp_path, *options, "-DTOKPACK_BPE_SANITIZE=address,undefined")
    targets = [path for path in sorted(tmp_path.glob("fuzz_*")) if path.is_file()]
    assert targets
    for target in targets:
        corpus = tmp_path / f"{target.name}.corpus"
        kept = SOURCE / "tests" / "native" / "corpus" / target.name.removeprefix("fuzz_")
        if kept.is_dir():
            shutil.copytree(kept, corpus)
        else:
            corpus.mkdir()
        subprocess.run(
            [target, corpus, f"-max_total_time={FUZZ_SECONDS}", "-timeout=20"], check=True, cwd=tmp_path
        )
