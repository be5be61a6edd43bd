"""The contract, by the kit that every plugin author uses."""

from __future__ import annotations

from tokpack.testing import FormatConformance, PluginConformance


class TestPlugin(PluginConformance):
    module = "tokpack_megatron.plugin"


class TestMegatron(FormatConformance):
    name = "megatron"


class TestLlmc(FormatConformance):
    name = "llmc"
