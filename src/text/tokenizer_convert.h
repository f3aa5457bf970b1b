// A tokenizer as a tokenizer.json that other programs read, whatever it came from.
#pragma once

#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace colossus {

struct PortableTokenizer {
  std::string json;
  std::vector<std::string> differences;  // what the file cannot say: where encoding may then differ, in words
};

// to_json() is exact, but writes a SentencePiece model whole, which only this program reads. This says the same in
// steps that tokenizer.json has.
Result<PortableTokenizer> portable_json(const Tokenizer& tokenizer);

}  // namespace colossus
