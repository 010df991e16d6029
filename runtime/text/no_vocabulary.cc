#include "runtime/text/no_vocabulary.h"

#include "runtime/core/error.h"

namespace thermocline {

std::vector<int32_t> NoVocabulary::EncodeText(std::string_view /*text*/,
                                              bool /*parse_special*/) const {
  throw Error({.path = path_,
               .what = "the model has no vocabulary, so that text cannot be read",
               .expected = "a file that holds its tokenizer",
               .found = "tokenizer.ggml.model \"no_vocab\"",
               .hint = "convert the model again from a directory with its tokenizer"});
}

}  // namespace thermocline
