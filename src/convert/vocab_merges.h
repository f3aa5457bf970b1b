// GPT-2's older files: vocab.json and merges.txt instead of tokenizer.json.
#pragma once

#include <string>

#include "base/status.h"
#include "io/file_system.h"

namespace colossus {

// A tokenizer.json of the two. `split`: how texts are cut before they are merged, which the files do not say; a name
// that text/gguf_vocabulary.h knows.
Result<std::string> tokenizer_of_vocab_and_merges(FileSystem& files, const std::string& directory,
                                                  const std::string& split);

}  // namespace colossus
