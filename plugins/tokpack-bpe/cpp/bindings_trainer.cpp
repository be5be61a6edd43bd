#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/function.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "module.hpp"
#include "trainer.hpp"
#include "word_counts.hpp"

namespace nb = nanobind;

namespace tokpack::bpe {

namespace {

using Bytes = nb::ndarray<const std::uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Offsets = nb::ndarray<const std::int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using MergeArray = nb::ndarray<nb::numpy, std::uint32_t, nb::shape<-1, 2>>;

WordCounter make_counter(std::string_view pattern, std::vector<std::string> special_tokens) {
  const auto known = pattern_named(pattern);
  if (!known) throw std::invalid_argument("unknown pattern " + std::string(pattern));
  return WordCounter(*known, std::move(special_tokens));
}

TieRule tie_rule_or_throw(std::string_view name) {
  if (name == "bytes") return TieRule::bytes;
  if (name == "hf") return TieRule::hf;
  throw std::invalid_argument("unknown tie rule " + std::string(name));
}

/// Count the documents of a TextBatch; other threads may run meanwhile, on other counters.
void count(WordCounter& counter, const Bytes& data, const Offsets& offsets) {
  const std::size_t documents = offsets.size() == 0 ? 0 : offsets.size() - 1;
  const std::int64_t* edges = offsets.data();
  if (!std::is_sorted(edges, edges + offsets.size()) ||
      (documents > 0 && (edges[0] < 0 || static_cast<std::size_t>(edges[documents]) > data.size()))) {
    throw std::invalid_argument("offsets do not lie in order within the data");
  }
  const nb::gil_scoped_release release;
  for (std::size_t i = 0; i < documents; ++i) {
    counter.count({data.data() + edges[i], static_cast<std::size_t>(edges[i + 1] - edges[i])});
  }
}

/// Merges as an array (merges, 2) of ids, where ids below 256 are bytes in GPT-2's order.
MergeArray merges(const WordCounter& counter, std::size_t max_merges, std::string_view tie_rule,
                  std::uint64_t min_frequency, std::optional<std::size_t> max_token_bytes,
                  nb::callable progress) {
  TrainerOptions options;
  options.max_merges = max_merges;
  options.min_frequency = min_frequency;
  options.max_token_bytes = max_token_bytes.value_or(options.max_token_bytes);
  options.tie_rule = tie_rule_or_throw(tie_rule);

  std::vector<Merge> found;
  {
    const nb::gil_scoped_release release;
    found = train(counter.counts().words(), options, [&](std::size_t done) {
      const nb::gil_scoped_acquire acquire;
      if (PyErr_CheckSignals() != 0) throw nb::python_error();
      progress(done);
    });
  }
  auto* ids = new std::vector<std::uint32_t>;
  const nb::capsule owner(ids, [](void* p) noexcept { delete static_cast<std::vector<std::uint32_t>*>(p); });
  ids->reserve(2 * found.size());
  for (const Merge& merge : found) ids->insert(ids->end(), {merge.pair.left, merge.pair.right});
  return MergeArray(ids->data(), {found.size(), 2}, owner);
}

}  // namespace

void bind_trainer(nb::module_& module) {
  nb::class_<WordCounter>(module, "WordCounter", "Counts the distinct pre-tokens of documents.")
      .def(nb::new_(&make_counter), nb::arg("pattern"), nb::arg("special_tokens"))
      .def("count", &count, nb::arg("data"), nb::arg("offsets"))
      .def("add", &WordCounter::add, nb::arg("other"), nb::call_guard<nb::gil_scoped_release>())
      .def("words",
           [](const WordCounter& counter) {
             std::vector<std::pair<nb::bytes, std::uint64_t>> words;
             for (const CountedWord& word : counter.counts().words()) {
               words.emplace_back(nb::bytes(word.bytes.data(), word.bytes.size()), word.count);
             }
             return words;
           })
      .def("merges", &merges, nb::arg("max_merges"), nb::arg("tie_rule"), nb::arg("min_frequency"),
           nb::arg("max_token_bytes").none(), nb::arg("progress"))
      .def_prop_ro("unique", [](const WordCounter& counter) { return counter.counts().size(); })
      .def_prop_ro("total", &WordCounter::total);
  module.def("byte_order", [] {
    const auto bytes = byte_of_symbol();
    return nb::bytes(bytes.data(), bytes.size());
  });
}

}  // namespace tokpack::bpe
