from tokpack.testing import FormatConformance, PluginConformance


class TestDigits(FormatConformance):
    name = "digits"


class TestPlugin(PluginConformance):
    module = "tokpack_example.plugin"
