// llama2.c's files: a header of seven numbers and fp32 tensors one after the other (version 0, without a magic number,
// and version 1), and tokenizers of scores and pieces.
#pragma once

#include <string>

#include "convert/opened_model.h"

namespace colossus {

// `tokenizer`: the .bin of its pieces; "": tokenizer.bin beside it, where there is one.
Result<OpenedModel> open_llama2c(FileSystem& files, const std::string& path, const std::string& tokenizer);

// A tokenizer.json (of this program's own kind: text/tokenizer_convert.h makes others of it) that encodes and decodes
// as llama2.c does with the pieces of the file: SentencePiece's merges by score, of equal ones the leftmost, bytes
// where there is no piece, a blank before the text, <s> before that. `vocab_size` is the model's.
Result<std::string> llama2c_tokenizer_json(FileSystem& files, const std::string& path, int64_t vocab_size);

// How many pieces such a file has; refuses what is none.
Result<int64_t> count_llama2c_pieces(FileSystem& files, const std::string& path);

}  // namespace colossus
