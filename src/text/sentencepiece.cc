#include "text/sentencepiece.h"

#include <fmt/format.h>

#include <concepts>
#include <memory>

#include "text/piece_vocabulary.h"
#include "text/protobuf_reader.h"

namespace colossus {

namespace {

using Model = SentencePieceModel;

Status wrong_kind(std::string_view message, const ProtobufField& field) {
  return corrupt(fmt::format("{}: field {} is of another kind", message, field.number));
}

Result<ScoredPiece> read_piece(std::string_view bytes) {
  ScoredPiece piece;
  ProtobufReader reader(bytes);
  ProtobufField field;
  while (true) {
    ASSIGN_OR_RETURN(const bool more, reader.next(field));
    if (!more) return piece;
    if (field.number >= 1 && field.number <= 3 && field.is_bytes != (field.number == 1)) {
      return wrong_kind("a piece", field);
    }
    if (field.number == 1) piece.text = field.bytes;
    if (field.number == 2) piece.score = field.as_float();
    if (field.number == 3) {
      if (field.value < 1 || field.value > 6) return corrupt(fmt::format("a piece has the type {}", field.value));
      piece.type = static_cast<PieceType>(field.value);
    }
  }
}

// The fields that we know of the two parts of a model beside its pieces, for reading and for writing: visit(number,
// value). How a model was trained, the names of rules and what a map was compiled from change nothing.
template <class AnyModel, class Visit>
void visit_trainer(AnyModel& model, Visit&& visit) {
  visit(3, model.type);
  visit(24, model.whitespace_as_suffix);
  visit(35, model.byte_fallback);
  visit(44, model.unknown_surface);
}
template <class AnyModel, class Visit>
void visit_normalizer(AnyModel& model, Visit&& visit) {
  visit(2, model.charsmap);
  visit(3, model.add_dummy_prefix);
  visit(4, model.remove_extra_whitespaces);
  visit(5, model.escape_whitespaces);
}

// Takes `field` where it is the one that is visited.
class FieldReader {
 public:
  FieldReader(const ProtobufField& field, std::string_view part) : field_(field), part_(part) {}
  void operator()(uint32_t number, std::string& value) {
    if (number != field_.number) return;
    if (!field_.is_bytes) status_ = wrong_kind(part_, field_);
    value = field_.bytes;
  }
  template <std::unsigned_integral Number>
  void operator()(uint32_t number, Number& value) {
    if (number == field_.number) value = static_cast<Number>(field_.value);
  }
  const Status& status() const { return status_; }

 private:
  const ProtobufField& field_;
  std::string_view part_;
  Status status_;
};

template <class VisitPart>
Status read_part(std::string_view bytes, std::string_view part, VisitPart&& visit_part) {
  ProtobufReader reader(bytes);
  ProtobufField field;
  while (true) {
    ASSIGN_OR_RETURN(const bool more, reader.next(field));
    if (!more) return ok_status();
    FieldReader read(field, part);
    visit_part(read);
    RETURN_IF_ERROR(read.status());
  }
}

Status read_normalizer(std::string_view bytes, Model& model) {
  return read_part(bytes, "the normalizer's settings", [&](FieldReader& read) { visit_normalizer(model, read); });
}

void append_varint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  out += static_cast<char>(value);
}
void append_bytes(std::string& out, uint32_t field, std::string_view bytes) {
  append_varint(out, field << 3 | 2);
  append_varint(out, bytes.size());
  out += bytes;
}

// Appends the fields that are visited.
class FieldWriter {
 public:
  explicit FieldWriter(std::string& out) : out_(out) {}
  void operator()(uint32_t number, const std::string& value) { append_bytes(out_, number, value); }
  void operator()(uint32_t number, uint64_t value) {
    append_varint(out_, number << 3);
    append_varint(out_, value);
  }

 private:
  std::string& out_;
};

}  // namespace

Result<SentencePieceModel> read_sentencepiece(std::string_view bytes) {
  Model model;
  ProtobufReader reader(bytes);
  ProtobufField field;
  while (true) {
    ASSIGN_OR_RETURN(const bool more, reader.next(field));
    if (!more) return model;
    if (field.number >= 1 && field.number <= 5 && !field.is_bytes) return wrong_kind("the model", field);
    switch (field.number) {
      case 1: {
        ASSIGN_OR_RETURN(ScoredPiece piece, read_piece(field.bytes));
        model.pieces.push_back(std::move(piece));
        break;
      }
      case 2:
        RETURN_IF_ERROR(
            read_part(field.bytes, "the trainer's settings", [&](FieldReader& read) { visit_trainer(model, read); }));
        break;
      case 3: RETURN_IF_ERROR(read_normalizer(field.bytes, model)); break;
      case 5: {
        Model denormalizer;
        RETURN_IF_ERROR(read_normalizer(field.bytes, denormalizer));
        model.denormalizes = !denormalizer.charsmap.empty();
        break;
      }
      default: break;  // its own tests
    }
  }
}

std::string write_sentencepiece(const SentencePieceModel& model) {
  std::string out, part;
  FieldWriter write(part);
  for (const ScoredPiece& piece : model.pieces) {
    part.clear();
    write(1, piece.text);
    append_varint(part, 2 << 3 | 5);
    part.append(reinterpret_cast<const char*>(&piece.score), sizeof(piece.score));
    write(3, static_cast<uint64_t>(piece.type));
    append_bytes(out, 1, part);
  }
  part.clear();
  visit_trainer(model, write);
  append_bytes(out, 2, part);
  part.clear();
  visit_normalizer(model, write);
  append_bytes(out, 3, part);
  return out;
}

Result<Tokenizer> tokenizer_from_sentencepiece(std::string_view bytes) {
  ASSIGN_OR_RETURN(TokenizerSpec spec, spec_from_sentencepiece(bytes));
  return Tokenizer::create(std::move(spec));
}

Result<TokenizerSpec> spec_from_sentencepiece(std::string_view bytes) {
  ASSIGN_OR_RETURN(const Model model, read_sentencepiece(bytes));
  if (model.denormalizes) return invalid("the model has a denormalizer, which is not supported");
  TokenizerSpec spec;
  if (model.type == static_cast<uint64_t>(Model::Type::kBpe)) {
    RETURN_IF_ERROR(fill_from_merging_pieces(model.pieces, spec));
  } else if (model.type == static_cast<uint64_t>(Model::Type::kUnigram)) {
    RETURN_IF_ERROR(fill_from_unigram_pieces(model.pieces, spec));
  } else {
    return invalid(fmt::format("the model's type is {}; supported are 1 (unigram) and 2 (bpe)", model.type));
  }
  if (!spec.unknown) return invalid("no piece is the unknown one");
  spec.byte_fallback = spec.byte_fallback && model.byte_fallback;

  SentencePieceNormalizer normalizer{.add_dummy_prefix = model.add_dummy_prefix,
                                     .remove_extra_whitespaces = model.remove_extra_whitespaces,
                                     .escape_whitespaces = model.escape_whitespaces,
                                     .whitespace_as_suffix = model.whitespace_as_suffix};
  ASSIGN_OR_RETURN(Charsmap map, Charsmap::read(model.charsmap));
  normalizer.map = std::make_shared<Charsmap>(std::move(map));
  const auto kept = std::make_shared<ByteTrie>();
  for (size_t i = 0; i < model.pieces.size(); ++i) {
    if (model.pieces[i].type == PieceType::kUserDefined) kept->insert(model.pieces[i].text, static_cast<int32_t>(i));
  }
  if (!kept->empty()) normalizer.kept = kept;
  spec.normalizer.push_back(std::move(normalizer));
  spec.decoder.push_back(SentencePieceDecoder{
      .strip_first = model.add_dummy_prefix || model.remove_extra_whitespaces,
      .strip_all = model.remove_extra_whitespaces,
      .unknown = model.unknown_surface,
  });
  spec.sentencepiece = bytes;
  return spec;
}

}  // namespace colossus
