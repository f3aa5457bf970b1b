// GPT-2's older files: vocab.json and merges.txt instead of tokenizer.json.
#pragma once

#include <string>

#include "base/status.h"
#include "io/file_system.h"

namespace colossus {

// A tokenizer.json of the two.
Result<std::string> tokenizer_of_vocab_and_merges(FileSystem& files, const std::string& directory);

}  // namespace colossus
