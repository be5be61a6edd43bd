from tokpack.testing import ExecutorConformance, PluginConformance


class TestRay(ExecutorConformance):
    name = "ray"


class TestPlugin(PluginConformance):
    module = "tokpack_ray.plugin"
