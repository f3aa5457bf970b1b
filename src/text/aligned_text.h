// Text on its way through normalizers and pre-tokenizers, with the place in the source that each of its bytes came
// from.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace colossus {

// A range of bytes: [begin, end).
struct TextSpan {
  size_t begin = 0;
  size_t end = 0;
  bool operator==(const TextSpan&) const = default;
};

// What is inserted has an empty range, where it was put.
class AlignedText {
 public:
  AlignedText() = default;
  // All of `source`, each byte its own place plus `offset`. Places are only kept if `tracked`.
  AlignedText(std::string_view source, size_t offset, bool tracked) : text_(source), tracked_(tracked) {
    if (!tracked) return;
    spans_.reserve(source.size());
    for (size_t i = 0; i < source.size(); ++i) spans_.push_back({offset + i, offset + i + 1});
  }
  // An empty one, to be made from `before`.
  static AlignedText like(const AlignedText& before) {
    AlignedText made;
    made.tracked_ = before.tracked_;
    made.text_.reserve(before.text_.size() + before.text_.size() / 8 + 8);
    return made;
  }

  std::string_view text() const { return text_; }
  bool tracked() const { return tracked_; }
  const std::vector<TextSpan>& spans() const { return spans_; }  // one per byte; empty if not tracked

  // Appends `bytes`, made from the range [begin, end) of `before`; begin == end for what is inserted there.
  void append(std::string_view bytes, const AlignedText& before, size_t begin, size_t end) {
    text_ += bytes;
    if (tracked_) spans_.insert(spans_.end(), bytes.size(), before.source_of(begin, end));
  }
  // Appends that range as it is.
  void copy(const AlignedText& before, size_t begin, size_t end) {
    text_.append(before.text_, begin, end - begin);
    if (tracked_) spans_.insert(spans_.end(), before.spans_.begin() + begin, before.spans_.begin() + end);
  }

  // Keeps the first `size` bytes.
  void truncate(size_t size) {
    text_.erase(size);
    if (tracked_) spans_.erase(spans_.begin() + static_cast<std::ptrdiff_t>(size), spans_.end());
  }

  // Where the bytes [begin, end) of this text came from.
  TextSpan source_of(size_t begin, size_t end) const {
    if (spans_.empty()) return {};
    if (begin < end) return {spans_[begin].begin, spans_[end - 1].end};
    const size_t at = begin < spans_.size() ? spans_[begin].begin : spans_.back().end;
    return {at, at};
  }

 private:
  std::string text_;
  std::vector<TextSpan> spans_;
  bool tracked_ = false;
};

}  // namespace colossus
