#include "convert/llama2c.h"

#include <fmt/format.h>

#include <array>
#include <cstring>

#include "io/checksum.h"
#include "text/tokenizer.h"

namespace colossus {
namespace {

constexpr uint32_t kMagic = 0x616b3432;  // "ak42"
constexpr int64_t kVersion1Bytes = 256;  // of its header

struct Header {
  ModelConfig config;
  int64_t data_offset = 0;
  bool version_1 = false;
};

std::string describe(std::span<const int32_t, 7> n) {
  return fmt::format("dim {}, hidden_dim {}, n_layers {}, n_heads {}, n_kv_heads {}, vocab_size {}, seq_len {}", n[0],
                     n[1], n[2], n[3], n[4], n[5], n[6]);
}

// `shared` by version 1; version 0 has it in the sign of the vocabulary's size.
Result<ModelConfig> config_of(std::span<const int32_t, 7> n, bool version_1, bool shared) {
  constexpr int32_t kMax = 1 << 24;
  const int64_t vocab_size = std::abs(int64_t{n[5]});
  for (const int i : {0, 1, 2, 3, 4, 6})
    if (n[static_cast<size_t>(i)] < 1 || n[static_cast<size_t>(i)] > kMax || vocab_size < 1 || vocab_size > kMax)
      return invalid(
          fmt::format("its header says {}; needed numbers from 1 to {}: not a llama2.c model", describe(n), kMax));
  if (n[0] % n[3] != 0 || n[3] % n[4] != 0 || n[0] / n[3] % 2 != 0)
    return invalid(
        fmt::format("its header says {}; n_kv_heads must divide n_heads, n_heads dim, and a head be of even size: not "
                    "a llama2.c model",
                    describe(n)));
  ModelConfig m{.family = Family::kLlama};
  m.width = n[0];
  m.ffn_width = n[1];
  m.num_layers = n[2];
  m.num_heads = n[3];
  m.num_kv_heads = n[4];
  m.head_dim = m.width / m.num_heads;
  m.vocab_size = vocab_size;
  m.context = n[6];
  m.tie_embeddings = version_1 ? shared : n[5] > 0;
  m.activation = ActivationKind::kSilu;
  m.num_experts = 0;
  m.norm_eps = 1e-5;
  return m;
}

Result<Header> read_header(FileReader& file) {
  std::array<int32_t, 10> words{};
  RETURN_IF_ERROR(read_exactly(file, 0, std::as_writable_bytes(std::span(words)).first(28)));
  Header header;
  if (static_cast<uint32_t>(words[0]) != kMagic) {
    ASSIGN_OR_RETURN(header.config, config_of(std::span(words).first<7>(), false, false));
    header.data_offset = 28;
    return header;
  }
  if (words[1] != 1)
    return invalid(
        fmt::format("version {} of llama2.c's format; needed 0 or 1 (fp32): export the model again with it", words[1]));
  RETURN_IF_ERROR(read_exactly(file, 0, std::as_writable_bytes(std::span(words)).first(40)));
  header.version_1 = true;
  header.data_offset = kVersion1Bytes;
  const bool shared = reinterpret_cast<const uint8_t*>(words.data())[36] != 0;
  ASSIGN_OR_RETURN(header.config, config_of(std::span(words).subspan<2, 7>(), true, shared));
  return header;
}

class Layout0 {
 public:
  Layout0(std::shared_ptr<FileReader> file, std::string path, int64_t offset)
      : file_(std::move(file)), path_(std::move(path)), offset_(offset) {}

  // num_layers > 0: one after the other, "<name>.<layer>".
  void add(const std::string& name, const Shape& shape, int64_t num_layers = 0) {
    for (int64_t layer = 0; layer < std::max<int64_t>(num_layers, 1); ++layer) {
      const std::string full = num_layers > 0 ? fmt::format("{}.{}", name, layer) : name;
      tensors_[full] = {.name = full,
                        .dtype = DType::kF32,
                        .shape = shape,
                        .read =
                            [file = file_, at = offset_, path = path_](int64_t offset, std::span<std::byte> into) {
                              return read_exactly(*file, at + offset, into).at(path);
                            },
                        .place = path_};
      offset_ += shape.num_elements() * 4;
    }
  }
  void skip(int64_t floats) { offset_ += floats * 4; }
  int64_t end() const { return offset_; }
  SourceTensors take() { return std::move(tensors_); }

 private:
  std::shared_ptr<FileReader> file_;
  const std::string path_;
  int64_t offset_;
  SourceTensors tensors_;
};

void add_tensors(Layout0& at, const Header& header) {
  const ModelConfig& m = header.config;
  const int64_t L = m.num_layers, C = m.width, F = m.ffn_width, HD = m.num_heads * m.head_dim,
                KD = m.num_kv_heads * m.head_dim;
  const auto matrices = [&] {
    at.add("wq", {HD, C}, L);
    at.add("wk", {KD, C}, L);
    at.add("wv", {KD, C}, L);
    at.add("wo", {C, HD}, L);
  };
  const auto feed_forward = [&] {
    at.add("w1", {F, C}, L);
    at.add("w2", {C, F}, L);
    at.add("w3", {F, C}, L);
  };
  if (header.version_1) {
    at.add("rms_att_weight", {C}, L);
    at.add("rms_ffn_weight", {C}, L);
    at.add("rms_final_weight", {C});
    at.add("token_embedding_table", {m.vocab_size, C});
    matrices();
    feed_forward();
  } else {
    at.add("token_embedding_table", {m.vocab_size, C});
    at.add("rms_att_weight", {C}, L);
    matrices();
    at.add("rms_ffn_weight", {C}, L);
    feed_forward();
    at.add("rms_final_weight", {C});
    at.skip(m.context * m.head_dim);  // cosines and sines of the rotary embedding
  }
  if (!m.tie_embeddings) at.add("wcls", {m.vocab_size, C});
}

// A header that is none can ask for more than any file has.
bool fits_any_file(const ModelConfig& m) {
  const double floats = static_cast<double>(m.vocab_size) * static_cast<double>(m.width) * 2 +
                        static_cast<double>(m.num_layers) * static_cast<double>(m.width) *
                            (4.0 * static_cast<double>(m.width) + 3.0 * static_cast<double>(m.ffn_width) + 2.0) +
                        static_cast<double>(m.context) * static_cast<double>(m.head_dim);
  return floats < 1e18 && m.num_layers <= 10000;
}

}  // namespace

Result<OpenedModel> open_llama2c(FileSystem& files, const std::string& path, const std::string& tokenizer) {
  ASSIGN_OR_RETURN(std::shared_ptr<FileReader> file, files.open(path));
  auto header = read_header(*file);
  if (!header.ok()) return header.status().at(path);
  if (!fits_any_file(header->config))
    return invalid(fmt::format("[{}] its header asks for more numbers than any file has: not a llama2.c model", path));
  Layout0 layout(file, path, header->data_offset);
  add_tensors(layout, *header);
  if (layout.end() != file->size())
    return corrupt(fmt::format("[{}] is {} bytes long, its header asks for {}; it was cut, or is no llama2.c model",
                               path, file->size(), layout.end()));
  OpenedModel model{.format = "llama2.c",
                    .family = {},
                    .config = header->config,
                    .rules = {llama2c_rules().begin(), llama2c_rules().end()},
                    .no_parameters = {},
                    .strip = {},
                    .tensors = layout.take(),
                    .other_types = {},
                    .generation = {},
                    .identity = {},
                    .texts = {},
                    .notes = {}};
  std::vector<std::byte> sample(static_cast<size_t>(std::min<int64_t>(file->size(), 1 << 20)));
  RETURN_IF_ERROR(read_exactly(*file, 0, sample));
  model.identity = fmt::format("llama2.c {} {:016x}", file->size(), checksum(sample));
  // Its program stops at a text's beginning too: stories follow one another in training.
  model.generation = {.begin = {1}, .add_begin = true, .end = {1, 2}};
  std::erase_if(model.generation.end, [&](int32_t id) { return id >= model.config.vocab_size; });
  if (model.config.vocab_size < 2) model.generation = {};
  std::string pieces = tokenizer;
  if (pieces.empty()) {
    const size_t slash = path.rfind('/');
    pieces = (slash == std::string::npos ? "" : path.substr(0, slash + 1)) + "tokenizer.bin";
    if (!files.stat(pieces).ok()) {
      model.notes.push_back(
          fmt::format("{}: no tokenizer; give its .bin with --tokenizer, else the model runs on ids only", path));
      return model;
    }
  }
  ASSIGN_OR_RETURN(model.texts["tokenizer.json"], llama2c_tokenizer_json(files, pieces, model.config.vocab_size));
  if (const auto read = Tokenizer::from_json(model.texts["tokenizer.json"]); !read.ok())
    model.notes.push_back(
        fmt::format("{}: kept as tokenizer.json, which this program cannot use: {}", pieces, read.status().message()));
  return model;
}

}  // namespace colossus
