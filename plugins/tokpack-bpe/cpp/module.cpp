#include "module.hpp"

NB_MODULE(_native, module) {
  module.doc() = "tokpack's byte-level BPE engine; use it through tokpack_bpe.";
  tokpack::bpe::bind_encoder(module);
  tokpack::bpe::bind_trainer(module);
}
