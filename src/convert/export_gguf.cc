#include "convert/export_gguf.h"

#include <fmt/format.h>

#include <cstring>

#include "convert/export_source.h"
#include "convert/gguf_config.h"
#include "convert/gguf_rope.h"
#include "convert/gguf_tokenizer.h"
#include "convert/gguf_writer.h"
#include "convert/opened_model.h"
#include "io/checked_json.h"
#include "io/checksum.h"
#include "text/tokenizer.h"

namespace colossus {
namespace {

// llama.cpp's numbers for what most of a file is.
int64_t file_type(GgmlType type) {
  if (type == GgmlType::kBF16) return 32;
  return type == GgmlType::kQ8_0 ? 7 : 0;
}

// Vectors, and matrices that llama.cpp wants in fp32 or looks rows up in.
bool stays_f32(const TheirTensor& theirs) {
  return theirs.shape.rank() == 1 || theirs.name.ends_with("ffn_gate_inp.weight") ||
         theirs.name == "position_embd.weight";
}

GgmlType type_of(const TheirTensor& theirs, DType stored, GgufExportType wanted) {
  if (stays_f32(theirs)) return GgmlType::kF32;
  switch (wanted) {
    case GgufExportType::kAsStored: return stored == DType::kBF16 ? GgmlType::kBF16 : GgmlType::kF32;
    case GgufExportType::kF32: return GgmlType::kF32;
    case GgufExportType::kBF16: return GgmlType::kBF16;
    case GgufExportType::kQ8_0: return theirs.shape[-1] % 32 == 0 ? GgmlType::kQ8_0 : GgmlType::kBF16;
  }
  return GgmlType::kF32;
}

void widen(DType from, std::span<const std::byte> bytes, std::span<float> numbers) {
  for (size_t i = 0; i < numbers.size(); ++i) {
    if (from == DType::kF32) {
      std::memcpy(&numbers[i], bytes.data() + 4 * i, 4);
    } else if (from == DType::kBF16) {
      BFloat16 value;
      std::memcpy(&value, bytes.data() + 2 * i, 2);
      numbers[i] = to_float(value);
    } else {
      Float16 value;
      std::memcpy(&value, bytes.data() + 2 * i, 2);
      numbers[i] = to_float(value);
    }
  }
}

Status narrow(GgmlType to, std::span<const float> numbers, std::span<std::byte> into) {
  switch (to) {
    case GgmlType::kF32: std::memcpy(into.data(), numbers.data(), into.size()); return ok_status();
    case GgmlType::kBF16:
      for (size_t i = 0; i < numbers.size(); ++i) {
        const BFloat16 value = to_bf16(numbers[i]);
        std::memcpy(into.data() + 2 * i, &value, 2);
      }
      return ok_status();
    default:
      if (quantize_q8_0(numbers, into)) return ok_status();
      return invalid("it has numbers that are not finite, or too large for q8_0; export it as f32");
  }
}

// The tensor's bytes in another type. The types differ, or it is read as it is.
GgufTensorToWrite to_write(const TheirTensor& theirs, const MadeTensor& made, GgmlType type) {
  GgufTensorToWrite tensor{.name = theirs.name, .type = type, .shape = theirs.shape, .read = {}};
  const auto as_stored = made.dtype == DType::kF32 ? GgmlType::kF32 : GgmlType::kBF16;
  if (type == as_stored && made.dtype != DType::kF16) {
    tensor.read = [made](int64_t offset, std::span<std::byte> into) { return made.assembly->read(offset, into); };
    return tensor;
  }
  tensor.read = [made, type](int64_t offset, std::span<std::byte> into) {
    const GgmlTypeSize& size = *ggml_type_size(static_cast<uint32_t>(type));
    const auto count = static_cast<int64_t>(into.size()) / size.block_bytes * size.block_elements;
    std::vector<std::byte> bytes(static_cast<size_t>(count * dtype_bytes(made.dtype)));
    RETURN_IF_ERROR(
        made.assembly->read(offset / size.block_bytes * size.block_elements * dtype_bytes(made.dtype), bytes));
    std::vector<float> numbers(static_cast<size_t>(count));
    widen(made.dtype, bytes, numbers);
    return narrow(type, numbers, into);
  };
  return tensor;
}

// Numbers as the keys hold them.
ModelConfig rounded(ModelConfig m) {
  for (double* number : {&m.rope_theta, &m.norm_eps, &m.embedding_scale, &m.logit_scale, &m.attn_softcap,
                         &m.router_softcap, &m.logit_softcap})
    *number = *gguf_f32(*number).number();
  // The table of frequencies says these, and several may say the same.
  m.rope_factor = ModelConfig().rope_factor;
  m.rope_low_turns = ModelConfig().rope_low_turns;
  m.rope_high_turns = ModelConfig().rope_high_turns;
  m.rope_original_context = ModelConfig().rope_original_context;
  if (m.family == Family::kGpt2) m.rope_theta = ModelConfig().rope_theta;  // it does not turn
  return m;
}

// What the keys say must be read back as the network, or tensors would be given that they do not describe.
Status check_expressible(const ModelConfig& config, const GgufMetadata& keys, const NameMap& map) {
  std::map<std::string, Shape> shapes;
  for (const TheirTensor& theirs : map.theirs) shapes[theirs.name] = theirs.shape;
  ASSIGN_OR_RETURN(const GgufModel read, read_gguf_config(keys, shapes, rope_freqs_of(config)));
  return check_same_network(
      rounded(config), rounded(read.config),
      fmt::format("a GGUF file of the architecture {}", gguf_architecture_name(read.architecture)));
}

// What came with an imported model beside its tokenizer.json.
Result<CarriedTokenizer> carried_tokenizer(const Checkpoint& checkpoint) {
  CarriedTokenizer carried;
  ASSIGN_OR_RETURN(const GenerationTokens generation, generation_of(checkpoint));
  if (!generation.begin.empty()) carried.begin_id = generation.begin.front();
  if (!generation.end.empty()) carried.end_id = generation.end.front();
  if (const std::string* text = text_of(checkpoint, std::string(kCarriedPrefix) + "chat_template.jinja"))
    carried.chat_template = *text;
  const std::string* config = text_of(checkpoint, std::string(kCarriedPrefix) + "tokenizer_config.json");
  if (!carried.chat_template.empty() || !config) return carried;
  if (const auto json = parse_checked_json(*config); json.ok() && json->is_object())
    if (const auto said = json->find("chat_template"); said != json->end() && said->is_string())
      carried.chat_template = said->get<std::string>();
  return carried;
}

Result<GgufTokenizerKeys> tokenizer_keys(const Checkpoint& checkpoint, int64_t vocab_size) {
  const std::string* json = text_of(checkpoint, "tokenizer.json");
  auto out = gguf_no_tokenizer();
  if (!json) {
    out.notes.emplace_back("there is no tokenizer.json; llama.cpp runs the model on token ids only");
    return out;
  }
  const auto tokenizer = Tokenizer::from_json(*json);
  if (tokenizer.ok()) {
    ASSIGN_OR_RETURN(const CarriedTokenizer carried, carried_tokenizer(checkpoint));
    return gguf_tokenizer(*tokenizer, vocab_size, carried);
  }
  out.notes.push_back(fmt::format("the tokenizer is left out: {}", tokenizer.status().message()));
  return out;
}

Result<GgufToWrite> plan_file(const ExportSource& source, const NameMap& map, const std::vector<SourceTensor>& sources,
                              GgufExportType wanted, ExportReport& report) {
  GgufToWrite file{.metadata = gguf_config(source.config), .lists = {}, .tensors = {}};
  RETURN_IF_ERROR(check_expressible(source.config, file.metadata, map));
  ASSIGN_OR_RETURN(GgufTokenizerKeys tokenizer, tokenizer_keys(source.checkpoint, source.config.vocab_size));
  file.metadata.merge(tokenizer.metadata);
  file.lists = std::move(tokenizer.lists);
  report.notes.insert(report.notes.end(), tokenizer.notes.begin(), tokenizer.notes.end());
  const auto buffers = make_assembly_buffers();
  GgmlType most = GgmlType::kF32;
  for (const TheirTensor& theirs : map.theirs) {
    ASSIGN_OR_RETURN(const MadeTensor made, make_tensor(map, theirs, sources, source.config.head_dim, buffers));
    const GgmlType type = type_of(theirs, made.dtype, wanted);
    if (type != GgmlType::kF32 && most != GgmlType::kQ8_0) most = type;
    file.tensors.push_back(to_write(theirs, made, type));
  }
  if (const std::vector<float> table = rope_freqs_of(source.config); !table.empty())
    file.tensors.push_back({.name = std::string(kRopeFreqs),
                            .type = GgmlType::kF32,
                            .shape = {static_cast<int64_t>(table.size())},
                            .read = [table](int64_t offset, std::span<std::byte> into) {
                              std::memcpy(into.data(), std::as_bytes(std::span(table)).data() + offset, into.size());
                              return ok_status();
                            }});
  file.metadata["general.type"] = gguf_text("model");
  file.metadata["general.file_type"] = gguf_u32(file_type(most));
  file.metadata["general.quantization_version"] = gguf_u32(2);
  return file;
}

std::string name_of(const std::string& place) {
  const std::string name = place.substr(place.rfind('/') + 1);
  return name.ends_with(".gguf") ? name.substr(0, name.size() - 5) : name;
}

}  // namespace

Result<ExportReport> export_gguf(FileSystem& files, const std::string& from, const std::string& to,
                                 const GgufExportOptions& options) {
  ASSIGN_OR_RETURN(const std::string place, free_place(files, to));
  ASSIGN_OR_RETURN(const ExportSource source, open_export_source(files, from));
  ASSIGN_OR_RETURN(const NameMap map, make_name_map(source.config, gguf_rules(source.config)));
  ASSIGN_OR_RETURN(const std::vector<SourceTensor> sources, open_sources(source.checkpoint, map));
  ExportReport report{.family = fmt::format("gguf {}", gguf_architecture_name(gguf_architecture_of(source.config))),
                      .config = source.config,
                      .num_files = 1,
                      .notes = source.notes};
  for (std::string& difference : gguf_differences(source.config)) report.notes.push_back(std::move(difference));
  ASSIGN_OR_RETURN(GgufToWrite file, plan_file(source, map, sources, options.type, report));
  file.metadata["general.name"] = gguf_text(name_of(place));
  report.num_tensors = static_cast<int64_t>(file.tensors.size());
  ASSIGN_OR_RETURN(const std::string manifest, read_file(files, source.checkpoint.path() + "/manifest.json"));
  ASSIGN_OR_RETURN(
      report.num_bytes,
      write_gguf(files, place, file,
                 {.identity = fmt::format("{:016x} {}", checksum(manifest), static_cast<int>(options.type)),
                  .progress = options.progress}));
  return report;
}

}  // namespace colossus
