// Tokenizers from files of any kind, told apart by what they begin with.
#include <algorithm>

#include "text/sentencepiece.h"
#include "text/tiktoken.h"
#include "text/tokenizer.h"

namespace colossus {

namespace {

// Lines of base64, a blank and a number.
bool looks_like_ranks(std::string_view bytes) {
  const std::string_view line = bytes.substr(0, bytes.find('\n'));
  const size_t blank = line.find(' ');
  return blank != std::string_view::npos && blank > 0 && blank + 1 < line.size() &&
         std::all_of(line.begin() + static_cast<std::ptrdiff_t>(blank) + 1, line.end(),
                     [](char c) { return (c >= '0' && c <= '9') || c == '\r'; });
}

}  // namespace

Result<Tokenizer> read_tokenizer(std::string_view bytes) {
  const size_t first = bytes.find_first_not_of(" \t\r\n");
  if (first != std::string_view::npos && bytes[first] != '{') {
    // A .model begins with its first piece: field 1, length-delimited.
    if (bytes[0] == '\x0A') return tokenizer_from_sentencepiece(bytes);
    if (looks_like_ranks(bytes)) return tokenizer_from_tiktoken(bytes, std::nullopt);
  }
  return Tokenizer::from_json(bytes);
}

Result<Tokenizer> load_tokenizer(FileSystem& files, const std::string& path) {
  constexpr int64_t kMaxFileBytes = int64_t{256} << 20;  // ten times the largest published
  ASSIGN_OR_RETURN(const std::string bytes, read_file(files, path, kMaxFileBytes));
  Result<Tokenizer> tokenizer = read_tokenizer(bytes);
  if (!tokenizer.ok()) return tokenizer.status().at(path);
  return tokenizer;
}

Status save_tokenizer(FileSystem& files, const std::string& path, const Tokenizer& tokenizer) {
  return write_file_atomically(files, path, tokenizer.to_json());
}

}  // namespace colossus
