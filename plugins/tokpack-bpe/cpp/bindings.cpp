// The encoder and decoder as Python sees them.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "decoder.hpp"
#include "engine.hpp"
#include "module.hpp"
#include "normal_form.hpp"
#include "pretokenizer.hpp"

namespace nb = nanobind;

namespace tokpack::bpe {

namespace {

template <class T>
using Input = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Bytes = Input<std::uint8_t>;
using Offsets = Input<std::int64_t>;

template <class T>
nb::object to_numpy(std::unique_ptr<T[], FreeMemory> memory, std::size_t size) {
  T* const data = memory.release();
  nb::capsule owner(data, [](void* pointer) noexcept { std::free(pointer); });
  return nb::cast(nb::ndarray<nb::numpy, T, nb::ndim<1>>(data, {size}, owner));
}

template <class T>
nb::object to_numpy(std::vector<T> values) {
  auto* const kept = new std::vector<T>(std::move(values));
  nb::capsule owner(kept, [](void* pointer) noexcept { delete static_cast<std::vector<T>*>(pointer); });
  return nb::cast(nb::ndarray<nb::numpy, T, nb::ndim<1>>(kept->data(), {kept->size()}, owner));
}

/// Throws std::invalid_argument unless `offsets` rise from 0 to no more than `size`.
void check_offsets(const Offsets& offsets, std::size_t size) {
  const std::int64_t* const edges = offsets.data();
  const std::size_t count = offsets.size();
  if (count == 0 || edges[0] != 0) throw std::invalid_argument("offsets must begin with 0");
  for (std::size_t i = 1; i < count; ++i) {
    if (edges[i] < edges[i - 1]) throw std::invalid_argument("offsets must not fall");
  }
  if (static_cast<std::size_t>(edges[count - 1]) > size) throw std::invalid_argument("offsets end beyond the data");
}

std::vector<Text> documents_of(const Bytes& data, const Offsets& offsets) {
  check_offsets(offsets, data.size());
  const std::int64_t* const edges = offsets.data();
  std::vector<Text> documents(offsets.size() - 1);
  for (std::size_t i = 0; i < documents.size(); ++i) {
    documents[i] = {data.data() + edges[i], static_cast<std::size_t>(edges[i + 1] - edges[i])};
  }
  return documents;
}

/// The UTF-8 of Python strings, which a string keeps as long as it lives.
std::vector<Text> documents_of(nb::tuple texts) {
  std::vector<Text> documents;
  documents.reserve(texts.size());
  for (nb::handle text : texts) {
    Py_ssize_t size = 0;
    const char* const utf8 = PyUnicode_AsUTF8AndSize(text.ptr(), &size);
    if (utf8 == nullptr) throw nb::python_error();
    documents.push_back({reinterpret_cast<const std::uint8_t*>(utf8), static_cast<std::size_t>(size)});
  }
  return documents;
}

SpecialPolicy policy_named(std::string_view name) {
  if (name == "text") return SpecialPolicy::text;
  if (name == "parse") return SpecialPolicy::parse;
  if (name == "error") return SpecialPolicy::error;
  throw std::invalid_argument("special must be text, parse or error");
}

Pattern known_pattern(std::string_view name) {
  if (const auto pattern = pattern_named(name)) return *pattern;
  throw std::invalid_argument("unknown pattern " + std::string(name));
}

std::vector<Token> tokens_of(const Bytes& data, const Offsets& offsets, const Input<std::uint32_t>& ids) {
  check_offsets(offsets, data.size());
  if (offsets.size() != ids.size() + 1) throw std::invalid_argument("as many ids as tokens are needed");
  std::vector<Token> tokens(ids.size());
  const char* const bytes = reinterpret_cast<const char*>(data.data());
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const std::int64_t begin = offsets.data()[i];
    tokens[i] = {{bytes + begin, static_cast<std::size_t>(offsets.data()[i + 1] - begin)}, ids.data()[i]};
  }
  return tokens;
}

using Added = std::vector<std::tuple<nb::bytes, std::uint32_t, bool>>;

AddedTokens added_tokens_of(const Added& added) {
  std::vector<AddedToken> tokens;
  for (const auto& [bytes, id, special] : added) tokens.push_back({{bytes.c_str(), bytes.size()}, id, special});
  return AddedTokens(std::move(tokens));
}

using MergeIds = nb::ndarray<const std::uint32_t, nb::shape<-1, 2>, nb::c_contig, nb::device::cpu>;

template <class Id>
Engine<Id>* new_engine(const Bytes& data, const Offsets& offsets, const Input<std::uint32_t>& ids,
                       const std::optional<MergeIds>& merges, bool whole_words, bool drop_missing,
                       std::string_view pattern, bool nfc, const Added& raw, const Added& normalized) {
  const std::vector<Token> tokens = tokens_of(data, offsets, ids);
  std::vector<MergeRule> rules(merges ? merges->shape(0) : 0);
  for (std::size_t i = 0; i < rules.size(); ++i) rules[i] = {merges->data()[2 * i], merges->data()[2 * i + 1]};
  const auto missing = drop_missing ? Vocabulary::MissingBytes::drop : Vocabulary::MissingBytes::refuse;
  auto vocabulary = std::make_shared<const Vocabulary>(
      merges ? Vocabulary::from_merges(tokens, rules, whole_words, missing) : Vocabulary::from_ranks(tokens));
  return new Engine<Id>(Model{std::move(vocabulary), known_pattern(pattern), nfc, added_tokens_of(raw),
                              added_tokens_of(normalized)});
}

template <class Id>
nb::tuple encode_documents(Engine<Id>& engine, const std::vector<Text>& documents, std::string_view special,
                           int threads) {
  const SpecialPolicy policy = policy_named(special);
  Encoded<Id> encoded;
  {
    const nb::gil_scoped_release released;
    encoded = engine.encode(documents, policy, threads);
  }
  const auto size = static_cast<std::size_t>(encoded.offsets.back());
  return nb::make_tuple(to_numpy(std::move(encoded.tokens), size), to_numpy(std::move(encoded.offsets)));
}

template <class Id>
void bind_engine(nb::module_& module, const char* name) {
  using E = Engine<Id>;
  nb::class_<E>(module, name)
      .def(nb::new_(&new_engine<Id>), nb::kw_only(), nb::arg("data"), nb::arg("offsets"), nb::arg("ids"),
           nb::arg("merges").none(), nb::arg("whole_words"), nb::arg("drop_missing"), nb::arg("pattern"),
           nb::arg("nfc"), nb::arg("raw_tokens"), nb::arg("normalized_tokens"))
      .def("encode", [](E& engine, const Bytes& data, const Offsets& offsets, std::string_view special,
                        int threads) { return encode_documents(engine, documents_of(data, offsets), special, threads); },
           nb::arg("data"), nb::arg("offsets"), nb::arg("special"), nb::arg("threads"))
      .def("encode_texts", [](E& engine, nb::sequence texts, std::string_view special, int threads) {
             const nb::tuple kept(texts);  // another thread may change the list meanwhile
             return encode_documents(engine, documents_of(kept), special, threads);
           }, nb::arg("texts"), nb::arg("special"), nb::arg("threads"))
      .def("count", [](E& engine, const Bytes& data, const Offsets& offsets, std::string_view special) {
             const std::vector<Text> documents = documents_of(data, offsets);
             const SpecialPolicy policy = policy_named(special);
             std::vector<std::int64_t> counts;
             {
               const nb::gil_scoped_release released;
               counts = engine.count(documents, policy);
             }
             return to_numpy(std::move(counts));
           }, nb::arg("data"), nb::arg("offsets"), nb::arg("special"))
      .def("rules", [](const E& engine) {
             const Vocabulary& vocabulary = *engine.model().vocabulary;
             auto rules = vocabulary.rules();
             auto* const kept = new decltype(rules)(std::move(rules));
             nb::capsule owner(kept, [](void* pointer) noexcept { delete static_cast<decltype(kept)>(pointer); });
             nb::list words;
             for (const std::string& word : vocabulary.unmerged_words()) words.append(nb::bytes(word.data(), word.size()));
             using Array = nb::ndarray<nb::numpy, std::uint32_t, nb::ndim<2>>;
             return nb::make_tuple(nb::cast(Array(kept->data(), {kept->size(), 3}, owner)), words);
           })
      .def("last_safe_cut", [](const E& engine, const Bytes& text) {
             return engine.last_safe_cut({text.data(), text.size()});
           }, nb::arg("text"));
}

template <class Id>
nb::bytes decode(const Decoder& decoder, const Input<Id>& tokens) {
  const std::span<const Id> ids(tokens.data(), tokens.size());
  const std::size_t size = decoder.size(ids);
  PyObject* const bytes = PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(size));
  if (bytes == nullptr) throw nb::python_error();
  decoder.decode(ids, reinterpret_cast<std::uint8_t*>(PyBytes_AsString(bytes)), size);
  return nb::steal<nb::bytes>(bytes);
}

template <class Id>
nb::tuple decode_batch(const Decoder& decoder, const Input<Id>& tokens, const Offsets& offsets) {
  check_offsets(offsets, tokens.size());
  std::unique_ptr<std::uint8_t[], FreeMemory> data;
  std::vector<std::int64_t> edges(offsets.size());
  {
    const nb::gil_scoped_release released;
    const auto document = [&](std::size_t i) {
      const std::int64_t begin = offsets.data()[i];
      return std::span<const Id>(tokens.data() + begin, static_cast<std::size_t>(offsets.data()[i + 1] - begin));
    };
    for (std::size_t i = 0; i + 1 < edges.size(); ++i) {
      edges[i + 1] = edges[i] + static_cast<std::int64_t>(decoder.size(document(i)));
    }
    const auto total = static_cast<std::size_t>(edges.back());
    data.reset(static_cast<std::uint8_t*>(std::malloc(std::max<std::size_t>(total, 1))));
    if (data == nullptr) throw std::bad_alloc();
    decoder.decode(std::span<const Id>(tokens.data(), static_cast<std::size_t>(offsets.data()[edges.size() - 1])),
                   data.get(), total);
  }
  const auto total = static_cast<std::size_t>(edges.back());
  return nb::make_tuple(to_numpy(std::move(data), total), to_numpy(std::move(edges)));
}

/// Byte positions at which pre-tokens begin.
std::vector<std::size_t> pretoken_starts(nb::bytes utf8, std::string_view name, bool scalar) {
  const Text text{static_cast<const std::uint8_t*>(utf8.data()), utf8.size()};
  const Pattern pattern = known_pattern(name);
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

nb::bytes normalize_nfc(nb::bytes utf8) {
  const Text text{static_cast<const std::uint8_t*>(utf8.data()), utf8.size()};
  std::vector<std::uint8_t> changed;
  return to_nfc(text, changed) ? nb::bytes(changed.data(), changed.size()) : utf8;
}

}  // namespace

void bind_encoder(nb::module_& module) {
  nb::exception<VocabularyError>(module, "VocabularyError", PyExc_ValueError);
  nb::exception<UnknownIdError>(module, "UnknownIdError", PyExc_LookupError);
  static PyObject* const special_found = nb::exception<SpecialFoundError>(module, "SpecialFoundError", PyExc_ValueError).ptr();
  nb::register_exception_translator([](const std::exception_ptr& raised, void*) {
    try {
      std::rethrow_exception(raised);
    } catch (const SpecialFoundError& found) {
      PyErr_SetObject(special_found, nb::make_tuple(found.what(), found.document).ptr());
    }
  });
  bind_engine<std::uint16_t>(module, "Engine16");
  bind_engine<std::uint32_t>(module, "Engine32");
  nb::class_<Decoder>(module, "Decoder")
      .def(nb::new_([](const Bytes& data, const Offsets& offsets, const Input<std::uint32_t>& ids) {
             return new Decoder(tokens_of(data, offsets, ids));
           }), nb::arg("data"), nb::arg("offsets"), nb::arg("ids"))
      .def("decode", &decode<std::uint16_t>, nb::arg("tokens").noconvert())
      .def("decode", &decode<std::uint32_t>, nb::arg("tokens").noconvert())
      .def("decode_batch", &decode_batch<std::uint16_t>, nb::arg("tokens").noconvert(), nb::arg("offsets"))
      .def("decode_batch", &decode_batch<std::uint32_t>, nb::arg("tokens").noconvert(), nb::arg("offsets"));
  module.def("normalize_nfc", &normalize_nfc, nb::arg("utf8"));
  module.def("pretoken_starts", &pretoken_starts, nb::arg("utf8"), nb::arg("pattern"), nb::arg("scalar") = false);
}

}  // namespace tokpack::bpe
