#include "decoder.hpp"

namespace tokpack::bpe {

UnknownIdError::UnknownIdError(std::uint64_t id, std::size_t position)
    : std::runtime_error("token id " + std::to_string(id) + " at position " + std::to_string(position) +
                         " is not in the vocabulary") {}

Decoder::Decoder(std::span<const Token> tokens) {
  for (const auto& [bytes, id] : tokens) {
    if (id > kMaxId) throw VocabularyError("id " + std::to_string(id) + " is above " + std::to_string(kMaxId));
    if (id >= slots_.size()) slots_.resize(id + std::size_t{1});
    Slot& slot = slots_[id];
    if (bytes.size() <= sizeof slot.bytes) {
      std::memcpy(slot.bytes, bytes.data(), bytes.size());
      slot.size = static_cast<std::uint8_t>(bytes.size());
      continue;
    }
    const auto place = static_cast<std::uint32_t>(long_bytes_.size());
    const auto size = static_cast<std::uint32_t>(bytes.size());
    std::memcpy(slot.bytes, &place, 4);
    std::memcpy(slot.bytes + 4, &size, 4);
    slot.size = kLong;
    long_bytes_ += bytes;
  }
}

}  // namespace tokpack::bpe
