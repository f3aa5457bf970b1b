#include "text/sentencepiece.h"

#include <fmt/format.h>

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

Status read_trainer(std::string_view bytes, Model& model) {
  ProtobufReader reader(bytes);
  ProtobufField field;
  while (true) {
    ASSIGN_OR_RETURN(const bool more, reader.next(field));
    if (!more) return ok_status();
    switch (field.number) {
      case 3: model.type = field.value; break;
      case 24: model.whitespace_as_suffix = field.value != 0; break;
      case 35: model.byte_fallback = field.value != 0; break;
      case 44:
        if (!field.is_bytes) return wrong_kind("the trainer's settings", field);
        model.unknown_surface = field.bytes;
        break;
      default: break;  // how it was trained changes nothing
    }
  }
}

Status read_normalizer(std::string_view bytes, Model& model) {
  ProtobufReader reader(bytes);
  ProtobufField field;
  while (true) {
    ASSIGN_OR_RETURN(const bool more, reader.next(field));
    if (!more) return ok_status();
    switch (field.number) {
      case 2:
        if (!field.is_bytes) return wrong_kind("the normalizer's settings", field);
        model.charsmap = field.bytes;
        break;
      case 3: model.add_dummy_prefix = field.value != 0; break;
      case 4: model.remove_extra_whitespaces = field.value != 0; break;
      case 5: model.escape_whitespaces = field.value != 0; break;
      default: break;  // a name, and the rules that the map was compiled from
    }
  }
}

void append_varint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  out += static_cast<char>(value);
}
void append_number(std::string& out, uint32_t field, uint64_t value) {
  append_varint(out, field << 3);
  append_varint(out, value);
}
void append_bytes(std::string& out, uint32_t field, std::string_view bytes) {
  append_varint(out, field << 3 | 2);
  append_varint(out, bytes.size());
  out += bytes;
}

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
      case 2: RETURN_IF_ERROR(read_trainer(field.bytes, model)); break;
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
  for (const ScoredPiece& piece : model.pieces) {
    part.clear();
    append_bytes(part, 1, piece.text);
    append_varint(part, 2 << 3 | 5);
    part.append(reinterpret_cast<const char*>(&piece.score), sizeof(piece.score));
    append_number(part, 3, static_cast<uint64_t>(piece.type));
    append_bytes(out, 1, part);
  }
  part.clear();
  append_number(part, 3, model.type);
  append_number(part, 24, model.whitespace_as_suffix);
  append_number(part, 35, model.byte_fallback);
  append_bytes(part, 44, model.unknown_surface);
  append_bytes(out, 2, part);
  part.clear();
  append_bytes(part, 2, model.charsmap);
  append_number(part, 3, model.add_dummy_prefix);
  append_number(part, 4, model.remove_extra_whitespaces);
  append_number(part, 5, model.escape_whitespaces);
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
