#include "data/text_pieces.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace colossus {
namespace {

constexpr size_t kPeekBytes = 65536;

bool is_continuation(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

// Length of a character from its first byte; 0 when none begins so.
size_t character_bytes(char c) {
  const auto byte = static_cast<unsigned char>(c);
  if (byte < 0x80) return 1;
  if (byte >= 0xC2 && byte < 0xE0) return 2;
  if (byte >= 0xE0 && byte < 0xF0) return 3;
  return byte >= 0xF0 && byte < 0xF5 ? 4 : 0;
}

}  // namespace

size_t utf8_boundary(std::string_view text, size_t size) {
  if (size >= text.size()) return text.size();
  size_t start = size;
  while (start > 0 && size - start < 3 && is_continuation(text[start])) --start;
  // In bytes that are no UTF-8 every place is as good.
  return is_continuation(text[start]) || start + character_bytes(text[start]) <= size ? size : start;
}

bool looks_binary(std::string_view sample) {
  if (sample.find('\0') != std::string_view::npos) return true;
  size_t invalid = 0;
  for (size_t at = 0; at < sample.size();) {
    const size_t length = character_bytes(sample[at]);
    size_t have = 1;
    while (have < length && at + have < sample.size() && is_continuation(sample[at + have])) ++have;
    const bool cut_by_sample = at + have == sample.size();
    if (have == length || (length > 0 && cut_by_sample)) {
      at += have;
    } else {
      ++invalid;
      ++at;
    }
  }
  return invalid * 10 > sample.size() * 3;
}

TextPieces::TextPieces(std::unique_ptr<ByteStream> stream, size_t max_piece_bytes)
    : stream_(std::move(stream)), max_piece_bytes_(std::max(max_piece_bytes, size_t{16})) {}

Status TextPieces::fill(size_t want) {
  while (!at_end_ && end_ - begin_ < want) {
    if (begin_ > 0) {
      std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
      end_ -= begin_;
      begin_ = 0;
    }
    // Grown only as far as there are bytes: most files are far smaller than a piece.
    if (end_ == buffer_.size()) buffer_.resize(std::min(std::max(buffer_.size() * 2, kPeekBytes), want + kPeekBytes));
    const auto room = std::as_writable_bytes(std::span(buffer_.data() + end_, buffer_.size() - end_));
    ASSIGN_OR_RETURN(const int64_t got, stream_->read(room));
    at_end_ = got == 0;
    end_ += static_cast<size_t>(got);
  }
  return ok_status();
}

Result<std::string_view> TextPieces::peek() {
  RETURN_IF_ERROR(fill(kPeekBytes));
  return waiting().substr(0, kPeekBytes);
}

Result<std::string_view> TextPieces::next_piece(bool* ends) {
  RETURN_IF_ERROR(fill(max_piece_bytes_ + 1));  // one more, to know whether something follows
  std::string_view piece = waiting();
  *ends = piece.size() <= max_piece_bytes_;
  if (!*ends) {
    const size_t line_end = piece.rfind('\n', max_piece_bytes_ - 1);
    piece = piece.substr(0, line_end == std::string_view::npos ? utf8_boundary(piece, max_piece_bytes_) : line_end + 1);
  }
  begin_ += piece.size();
  return piece;
}

Result<bool> TextPieces::next_line(std::string_view* line, size_t max_bytes) {
  size_t searched = 0;
  while (true) {
    const std::string_view rest = waiting();
    const size_t found = rest.find('\n', searched);
    const size_t length = std::min(found, rest.size());
    if (length > max_bytes) return invalid(fmt::format("a line has more than {} bytes", max_bytes));
    if (found != std::string_view::npos || at_end_) {
      *line = rest.substr(0, length);
      begin_ += found == std::string_view::npos ? length : length + 1;
      return found != std::string_view::npos || length > 0;
    }
    searched = rest.size();
    RETURN_IF_ERROR(fill(rest.size() + 1));
  }
}

}  // namespace colossus
