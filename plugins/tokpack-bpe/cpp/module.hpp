// What each part of the engine adds to the Python module. Nothing outside bindings*.cpp knows of Python.
#pragma once

#include <nanobind/nanobind.h>

namespace tokpack::bpe {

void bind_encoder(nanobind::module_& module);
void bind_trainer(nanobind::module_& module);

}  // namespace tokpack::bpe
