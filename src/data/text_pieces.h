// A decompressed file as pieces of bounded size cut at line ends, and the guess whether bytes are text at all.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "io/byte_stream.h"

namespace colossus {

class TextPieces {
 public:
  TextPieces(std::unique_ptr<ByteStream> stream, size_t max_piece_bytes);

  // What comes next, up to 64 KiB of it, without taking it.
  Result<std::string_view> peek();
  // The next piece without copying: valid until the next call. Cut behind the last line end that fits, in a longer line
  // before the last whole UTF-8 character. `ends`: nothing follows. An empty file is one empty piece.
  Result<std::string_view> next_piece(bool* ends);
  // The next line without its end; false at the end of the file. A line above `max_bytes` is an error.
  Result<bool> next_line(std::string_view* line, size_t max_bytes);
  int64_t consumed_bytes() const { return stream_->consumed_bytes(); }

 private:
  Status fill(size_t want);  // until want bytes wait or the stream is at its end
  std::string_view waiting() const { return std::string_view(buffer_).substr(begin_, end_ - begin_); }

  std::unique_ptr<ByteStream> stream_;
  const size_t max_piece_bytes_;
  std::string buffer_;
  size_t begin_ = 0, end_ = 0;
  bool at_end_ = false;
};

// Bytes before `size` at which no UTF-8 character is cut.
size_t utf8_boundary(std::string_view text, size_t size);
// A zero byte, or nearly a third of bytes that are not UTF-8 (Latin-1 text has a tenth).
bool looks_binary(std::string_view sample);

}  // namespace colossus
