#include "text/pre_tokenizer.h"

#include "text/byte_alphabet.h"
#include "text/unicode_data.h"
#include "text/utf8.h"

namespace colossus {

namespace {

struct Stretch {
  size_t begin;
  size_t end;
  bool found;
};

// Stretches of a piece that cover it, from the places found, which come in order.
class Stretches {
 public:
  explicit Stretches(bool invert) : invert_(invert) {}
  void add(size_t begin, size_t end) {
    gap(begin);
    put(begin, end, true);
    done_ = end;
  }
  std::vector<Stretch> finish(size_t size) {
    gap(size);
    return std::move(stretches_);
  }

 private:
  void gap(size_t end) {
    if (done_ < end) put(done_, end, false);
  }
  void put(size_t begin, size_t end, bool found) { stretches_.push_back({begin, end, found != invert_}); }

  const bool invert_;
  size_t done_ = 0;
  std::vector<Stretch> stretches_;
};

void append_pieces(const std::vector<Stretch>& stretches, SplitBehavior behavior, size_t offset,
                   std::vector<TextSpan>& out) {
  const size_t first = out.size();
  bool joins_next = false;
  bool previous_found = false;
  for (size_t i = 0; i < stretches.size(); ++i) {
    const Stretch& s = stretches[i];
    const TextSpan span{offset + s.begin, offset + s.end};
    bool joins = false;
    switch (behavior) {
      case SplitBehavior::kRemoved:
        if (!s.found) out.push_back(span);
        continue;
      case SplitBehavior::kIsolated: break;
      case SplitBehavior::kContiguous: joins = i > 0 && s.found == previous_found; break;
      // A place found joins what is before it, unless that is another one; or what is behind it, likewise.
      case SplitBehavior::kMergedWithPrevious: joins = s.found && i > 0 && !previous_found; break;
      case SplitBehavior::kMergedWithNext: joins = !s.found && joins_next; break;
    }
    joins_next = s.found;
    previous_found = s.found;
    if (joins && out.size() > first) {
      out.back().end = span.end;
    } else {
      out.push_back(span);
    }
  }
}

// Characters for which `in` holds, in runs or one by one.
template <class In>
std::vector<Stretch> stretches_of_characters(std::string_view text, bool runs, In in) {
  Stretches stretches(false);
  for (size_t at = 0; at < text.size();) {
    size_t end = at;
    bool any = false;
    while (end < text.size()) {
      const Utf8Char c = decode_utf8(text.substr(end));
      if (!in(c.code_point)) break;
      end += c.num_bytes;
      any = true;
      if (!runs) break;
    }
    if (any) {
      stretches.add(at, end);
      at = end;
    } else {
      at += decode_utf8(text.substr(at)).num_bytes;
    }
  }
  return stretches.finish(text.size());
}

bool is_numeric(uint32_t c) {
  static const uint32_t mask = *category_mask("N");
  return (category_bit(c) & mask) != 0;
}

bool is_punctuation(uint32_t c) {
  static const uint32_t mask = *category_mask("P");
  const bool ascii =
      (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
  return ascii || (category_bit(c) & mask) != 0;
}

// Rust's \w, which the library's own splits use, has the two joiners as well.
bool is_word(uint32_t c) { return is_word_character(c) || c == 0x200C || c == 0x200D; }

class PreTokenization {
 public:
  PreTokenization(bool at_start, AlignedText& text, std::vector<TextSpan>& pieces)
      : at_start_(at_start), text_(text), pieces_(pieces) {
    pieces_.clear();
    if (!text.text().empty()) pieces_.push_back({0, text.text().size()});
  }

  Status apply(const SplitText& step) {
    const bool covers = step.known && ((step.behavior == SplitBehavior::kIsolated && !step.invert) ||
                                       (step.behavior == SplitBehavior::kRemoved && step.invert));
    if (covers && !in_alphabet_) {
      cut(split_function(*step.known));
      return ok_status();
    }
    return split(step.behavior, [&](std::string_view piece) -> Result<std::vector<Stretch>> {
      Stretches stretches(step.invert);
      if (step.known) {
        for_each_piece(split_function(*step.known), piece, 0,
                       [&](size_t begin, size_t end) { stretches.add(begin, end); });
      } else if (step.regex) {
        RETURN_IF_ERROR(
            step.regex->for_each_match(piece, [&](size_t begin, size_t end) { stretches.add(begin, end); }));
      } else {
        for (size_t at = 0; (at = piece.find(step.literal, at)) != std::string_view::npos;) {
          stretches.add(at, at + step.literal.size());
          at += step.literal.size();
        }
      }
      return stretches.finish(piece.size());
    });
  }

  Status apply(const ByteLevel& step) {
    if (step.add_prefix_space) {
      prepend(" ", [](size_t, std::string_view piece) { return !piece.starts_with(' '); });
    }
    if (step.use_regex) cut(split_function(SplitPattern::kGpt2));
    in_alphabet_ = true;
    return ok_status();
  }

  Status apply(const Metaspace& step) {
    replace_blanks(step.replacement);
    if (step.prepend != Metaspace::Prepend::kNever) {
      prepend(step.replacement, [&](size_t index, std::string_view piece) {
        const bool wanted = step.prepend == Metaspace::Prepend::kAlways || (at_start_ && index == 0);
        return wanted && !piece.starts_with(step.replacement);
      });
    }
    if (!step.split) return ok_status();
    return split(SplitBehavior::kMergedWithNext, [&](std::string_view piece) -> Result<std::vector<Stretch>> {
      Stretches stretches(false);
      for (size_t at = 0; (at = piece.find(step.replacement, at)) != std::string_view::npos;) {
        stretches.add(at, at + step.replacement.size());
        at += step.replacement.size();
      }
      return stretches.finish(piece.size());
    });
  }

  Status apply(const Digits& step) {
    return split_characters(step.individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous, false, is_numeric);
  }
  Status apply(const WhitespaceSplit&) { return split_characters(SplitBehavior::kRemoved, false, is_white_space); }
  Status apply(const WordsAndRest&) {
    // Words are found; what is between them loses its white space.
    RETURN_IF_ERROR(split_characters(SplitBehavior::kIsolated, true, is_word));
    return split_characters(SplitBehavior::kRemoved, false, is_white_space);
  }
  Status apply(const Punctuation& step) { return split_characters(step.behavior, false, is_punctuation); }

 private:
  // Cuts every piece with `stretches_of(piece)`. Behind ByteLevel a piece is seen in the byte alphabet, as the library
  // does; places in it are then characters, each of which is a byte of ours.
  template <class StretchesOf>
  Status split(SplitBehavior behavior, StretchesOf&& stretches_of) {
    std::vector<TextSpan> cut;
    std::string spelled;
    for (const TextSpan& piece : pieces_) {
      const std::string_view bytes = text_.text().substr(piece.begin, piece.end - piece.begin);
      if (in_alphabet_) {
        spelled.clear();
        append_byte_alphabet(spelled, bytes);
      }
      ASSIGN_OR_RETURN(std::vector<Stretch> stretches, stretches_of(in_alphabet_ ? std::string_view(spelled) : bytes));
      if (in_alphabet_) count_characters(spelled, stretches);
      append_pieces(stretches, behavior, piece.begin, cut);
    }
    pieces_ = std::move(cut);
    return ok_status();
  }

  static void count_characters(std::string_view spelled, std::vector<Stretch>& stretches) {
    size_t done = 0;
    for (Stretch& stretch : stretches) {  // they cover the text
      const size_t begin = done;
      for (size_t at = stretch.begin; at < stretch.end; ++at)
        done += (static_cast<uint8_t>(spelled[at]) & 0xC0) != 0x80;
      stretch = {begin, done, stretch.found};
    }
  }

  template <class In>
  Status split_characters(SplitBehavior behavior, bool runs, In in) {
    return split(behavior, [&](std::string_view piece) -> Result<std::vector<Stretch>> {
      return stretches_of_characters(piece, runs, in);
    });
  }

  void cut(SplitFunction split) {
    std::vector<TextSpan> cut;
    for (const TextSpan& piece : pieces_) {
      const std::string_view until = text_.text().substr(0, piece.end);  // it must not look beyond its piece
      for_each_piece(split, until, piece.begin, [&](size_t begin, size_t end) { cut.push_back({begin, end}); });
    }
    pieces_ = std::move(cut);
  }

  // Puts `string` before each piece that wants it.
  template <class Wants>
  void prepend(std::string_view string, Wants&& wants) {
    AlignedText made = AlignedText::like(text_);
    for (size_t i = 0; i < pieces_.size(); ++i) {
      TextSpan& piece = pieces_[i];
      const size_t begin = made.text().size();
      if (wants(i, text_.text().substr(piece.begin, piece.end - piece.begin))) {
        made.append(string, text_, piece.begin, piece.begin);
      }
      made.copy(text_, piece.begin, piece.end);
      piece = {begin, made.text().size()};
    }
    text_ = std::move(made);
  }

  void replace_blanks(std::string_view replacement) {
    AlignedText made = AlignedText::like(text_);
    for (TextSpan& piece : pieces_) {
      const size_t begin = made.text().size();
      const std::string_view until = text_.text().substr(0, piece.end);
      for (size_t at = piece.begin; at < piece.end;) {
        const size_t blank = std::min(until.find(' ', at), piece.end);
        made.copy(text_, at, blank);
        if (blank < piece.end) made.append(replacement, text_, blank, blank + 1);
        at = blank + 1;
      }
      piece = {begin, made.text().size()};
    }
    text_ = std::move(made);
  }

  const bool at_start_;
  AlignedText& text_;
  std::vector<TextSpan>& pieces_;
  bool in_alphabet_ = false;
};

}  // namespace

Status pre_tokenize(const std::vector<PreTokenizerStep>& steps, bool at_start, AlignedText& text,
                    std::vector<TextSpan>& pieces) {
  PreTokenization run(at_start, text, pieces);
  for (const PreTokenizerStep& step : steps) {
    RETURN_IF_ERROR(std::visit([&](const auto& kind) { return run.apply(kind); }, step));
  }
  return ok_status();
}

}  // namespace colossus
