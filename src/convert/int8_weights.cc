#include "convert/int8_weights.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstring>

namespace colossus {
namespace {

constexpr std::string_view kWeight = ".weight", kScales = ".scales";
constexpr int64_t kMaxScaleBytes = int64_t{1} << 30;

Result<std::vector<float>> read_scales(const SafetensorsFile& file, const SafetensorsEntry& entry) {
  if (entry.size_bytes > kMaxScaleBytes)
    return invalid(fmt::format("[{}] {} has {} bytes; scales have at most {}", file.path(), entry.name,
                               entry.size_bytes, kMaxScaleBytes));
  std::vector<std::byte> bytes(static_cast<size_t>(entry.size_bytes));
  RETURN_IF_ERROR(file.read(entry, 0, bytes));
  const bool wide = entry.dtype == "F32";
  std::vector<float> values(bytes.size() / (wide ? 4 : 2));
  for (size_t i = 0; i < values.size(); ++i) {
    BFloat16 narrow;
    if (wide)
      std::memcpy(&values[i], bytes.data() + 4 * i, 4);
    else
      std::memcpy(&narrow, bytes.data() + 2 * i, 2);
    if (!wide) values[i] = to_float(narrow);
  }
  return values;
}

// Weights are read and multiplied as they are asked for; scales stay.
class Product {
 public:
  Product(std::shared_ptr<const SafetensorsFile> file, const SafetensorsEntry& weight, const SafetensorsEntry& scales,
          std::vector<float> values)
      : file_(std::move(file)), weight_(weight), scales_(scales), values_(std::move(values)) {}

  Status read(DType dtype, int64_t offset, std::span<std::byte> into) const {
    const int64_t element_bytes = dtype_bytes(dtype), first = offset / element_bytes;
    std::vector<int8_t> weights(into.size() / static_cast<size_t>(element_bytes));
    RETURN_IF_ERROR(file_->read(weight_, first, std::as_writable_bytes(std::span(weights))));
    const int64_t cols = weight_.shape.back(), per_scale = cols / scales_.shape.back();
    int64_t row = -1;
    const float* scales = nullptr;
    for (size_t i = 0; i < weights.size(); ++i) {
      const int64_t at = first + static_cast<int64_t>(i);
      if (at / cols != row) {
        row = at / cols;
        scales = values_.data() + scale_row(row) * scales_.shape.back();
      }
      const float product = static_cast<float>(weights[i]) * scales[at % cols / per_scale];
      const BFloat16 narrow = to_bf16(product);
      if (dtype == DType::kF32)
        std::memcpy(into.data() + 4 * i, &product, 4);
      else
        std::memcpy(into.data() + 2 * i, &narrow, 2);
    }
    return ok_status();
  }

 private:
  // Of the scales' rows (all dimensions but the last) the one that belongs to a row of the weights.
  int64_t scale_row(int64_t row) const {
    int64_t at = 0, factor = 1;
    for (size_t d = weight_.shape.size() - 1; d-- > 0;) {
      const int64_t index = row % weight_.shape[d];
      row /= weight_.shape[d];
      at += index / (weight_.shape[d] / scales_.shape[d]) * factor;
      factor *= scales_.shape[d];
    }
    return at;
  }

  std::shared_ptr<const SafetensorsFile> file_;
  const SafetensorsEntry& weight_;
  const SafetensorsEntry& scales_;
  const std::vector<float> values_;
};

bool fits(const std::vector<int64_t>& weight, const std::vector<int64_t>& scales) {
  if (weight.size() != scales.size() || weight.empty() || weight.size() > 3) return false;
  for (size_t d = 0; d < weight.size(); ++d)
    if (scales[d] < 1 || weight[d] < 1 || weight[d] % scales[d] != 0) return false;
  return true;
}

}  // namespace

bool Int8Weights::take(const std::shared_ptr<const SafetensorsFile>& file, const SafetensorsEntry& entry) {
  if (entry.dtype == "I8" && entry.name.ends_with(kWeight)) {
    pairs_[entry.name.substr(0, entry.name.size() - kWeight.size())].weight = {file, &entry};
    return true;
  }
  if ((entry.dtype == "F32" || entry.dtype == "BF16") && entry.name.ends_with(kScales)) {
    pairs_[entry.name.substr(0, entry.name.size() - kScales.size())].scales = {file, &entry};
    return true;
  }
  return false;
}

Status Int8Weights::add_to(SourceTensors& tensors, std::vector<std::string>& alone) {
  for (const auto& [name, pair] : pairs_) {
    if (!pair.weight.entry || !pair.scales.entry) {
      const SafetensorsEntry& half = *(pair.weight.entry ? pair.weight.entry : pair.scales.entry);
      alone.push_back(
          fmt::format("{}: {} without its {}", half.name, half.dtype, pair.weight.entry ? "scales" : "weight"));
      continue;
    }
    const SafetensorsEntry &weight = *pair.weight.entry, &scales = *pair.scales.entry;
    if (!fits(weight.shape, scales.shape))
      return invalid(fmt::format("[{}] {} is ({}), its scales are ({}); needed as many sizes, each a divisor",
                                 pair.scales.file->path(), weight.name, fmt::join(weight.shape, ", "),
                                 fmt::join(scales.shape, ", ")));
    ASSIGN_OR_RETURN(std::vector<float> values, read_scales(*pair.scales.file, scales));
    const auto product = std::make_shared<const Product>(pair.weight.file, weight, scales, std::move(values));
    const std::string whole = name.find('/') != std::string::npos ? name : name + std::string(kWeight);
    const DType dtype = scales.dtype == "F32" ? DType::kF32 : DType::kBF16;
    tensors[whole] = {
        .name = whole,
        .dtype = dtype,
        .shape = Shape(std::span<const int64_t>(weight.shape)),
        .read = [product, dtype](int64_t offset,
                                 std::span<std::byte> into) { return product->read(dtype, offset, into); },
        .place = pair.weight.file->path()};
  }
  return ok_status();
}

}  // namespace colossus
