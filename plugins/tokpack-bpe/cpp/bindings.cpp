#include <nanobind/nanobind.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "module.hpp"
#include "pretokenizer.hpp"

namespace nb = nanobind;

namespace tokpack::bpe {

namespace {

Text as_text(nb::bytes bytes) { return {static_cast<const std::uint8_t*>(bytes.data()), bytes.size()}; }

Pattern pattern_or_throw(std::string_view name) {
  if (const auto pattern = pattern_named(name)) return *pattern;
  throw std::invalid_argument("unknown pattern " + std::string(name));
}

/// Byte positions at which pre-tokens begin.
std::vector<std::size_t> pretoken_starts(nb::bytes utf8, std::string_view name, bool scalar) {
  const Text text = as_text(utf8);
  const Pattern pattern = pattern_or_throw(name);
  std::vector<std::size_t> starts;
  if (scalar) {
    for (std::size_t at = 0; at < text.size(); at = pretoken_end(pattern, text, at)) starts.push_back(at);
    return starts;
  }
  std::vector<std::uint64_t> marks(mark_words(text.size()));
  mark_pretokens(pattern, text, marks.data());
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (marks[at / 64] >> (at % 64) & 1) starts.push_back(at);
  }
  return starts;
}

}  // namespace

void bind_encoder(nb::module_& module) {
  module.def("pretoken_starts", &pretoken_starts, nb::arg("utf8"), nb::arg("pattern"),
             nb::arg("scalar") = false);
}

}  // namespace tokpack::bpe
