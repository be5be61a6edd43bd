// Any bytes: pre-tokens cover them, in bounds, and both implementations agree on what is valid.

#include "checks.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  tokpack::bpe::check_pretokens({data, size});
  return 0;
}
