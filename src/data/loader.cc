#include "data/loader.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/rng.h"

namespace colossus {
namespace {

constexpr uint64_t kWhole = uint64_t{1} << 32;
constexpr int64_t kMixBlock = 1024;  // samples whose order is shuffled among themselves when sources are mixed

// floor(count * share / 2^32) without 128 bits: count = high * 2^32 + low.
int64_t scaled(int64_t count, uint64_t share) {
  const uint64_t high = static_cast<uint64_t>(count) >> 32, low = static_cast<uint64_t>(count) & (kWhole - 1);
  return static_cast<int64_t>(high * share + ((low * share) >> 32));
}

Status check_options(const std::vector<DataSource>& sources, const LoaderOptions& options) {
  if (sources.empty()) return invalid("there is no data: name at least one directory of shards");
  if (sources.size() > 65535) return invalid(fmt::format("{} data sources are more than 65535", sources.size()));
  if (options.row_tokens < 1 || options.row_tokens > INT32_MAX || options.rows_per_step < 1) {
    return invalid(fmt::format("rows of {} tokens, {} a step: both must be at least 1", options.row_tokens,
                               options.rows_per_step));
  }
  for (const DataSource& source : sources) {
    if (!(source.weight > 0) || !std::isfinite(source.weight)) {
      return invalid(fmt::format("[{}] the weight {} should be above 0; leave the source out instead", source.directory,
                                 source.weight));
    }
  }
  return ok_status();
}

Status check_same_language(const ShardSet& first, const ShardSet& other) {
  if (first.index().identity == other.index().identity && first.index().bos_token == other.index().bos_token &&
      first.index().eos_token == other.index().eos_token) {
    return ok_status();
  }
  return invalid(
      fmt::format("{} (vocabulary {}, hash {:016x}) and {} (vocabulary {}, hash {:016x}) were made with different "
                  "tokenizers; build one of them again",
                  first.directory(), first.index().identity.vocab_size, first.index().identity.tokenizer_hash,
                  other.directory(), other.index().identity.vocab_size, other.index().identity.tokenizer_hash));
}

}  // namespace

Result<Loader> Loader::open(FileSystem& files, const std::vector<DataSource>& sources, const LoaderOptions& options) {
  RETURN_IF_ERROR(check_options(sources, options));
  Loader loader;
  loader.options_ = options;
  double weight_left = 0;
  for (const DataSource& source : sources) weight_left += source.weight;
  const int64_t row = options.row_tokens;
  for (const DataSource& source : sources) {
    ASSIGN_OR_RETURN(ShardSet set, ShardSet::open(files, source.directory, options.split));
    if (!loader.sources_.empty()) RETURN_IF_ERROR(check_same_language(loader.sources_.front().set, set));
    const int64_t num_tokens = set.num_tokens();
    if (num_tokens < row + 1) {
      return invalid(
          fmt::format("[{}] the split {} has {} tokens, a row of {} needs {}; use a shorter sequence or more text",
                      source.directory, options.split, num_tokens, row, row + 1));
    }
    int64_t num_rows = (num_tokens - 1) / row;
    if (options.random_offset && num_rows > 1) --num_rows;
    const int64_t slack = num_tokens - 1 - num_rows * row;
    const uint64_t share = std::min(kWhole, static_cast<uint64_t>(std::llround(source.weight / weight_left * 0x1p32)));
    weight_left -= source.weight;
    loader.sources_.push_back({.set = std::move(set),
                               .num_rows = num_rows,
                               .max_offset = options.random_offset ? std::min(slack, row - 1) : 0,
                               .share = share});
  }
  loader.sources_.back().share = kWhole;
  return loader;
}

int64_t Loader::num_tokens() const {
  int64_t sum = 0;
  for (const Source& source : sources_) sum += source.set.num_tokens();
  return sum;
}

Loader::Place Loader::place_of(int64_t sample) const {
  CHECK(sample >= 0);
  Place place;
  int64_t index = sample;
  if (sources_.size() > 1) {
    const RngKey key = {
        .seed = options_.seed, .purpose = RngPurpose::kMixture, .step = static_cast<uint64_t>(sample / kMixBlock)};
    if (options_.shuffle) {
      index = sample / kMixBlock * kMixBlock +
              static_cast<int64_t>(permute(key, static_cast<uint64_t>(sample % kMixBlock), kMixBlock));
    }
    // Source k takes its share of what the sources before it left: of the first n it has floor(n * share), so who a
    // sample belongs to, and its number there, need no history.
    while (place.source + 1 < sources_.size()) {
      const uint64_t share = sources_[place.source].share;
      const int64_t taken = scaled(index, share);
      if (scaled(index + 1, share) > taken) {
        index = taken;
        break;
      }
      index -= taken;
      ++place.source;
    }
  }
  const Source& source = sources_[place.source];
  place.epoch = index / source.num_rows;
  const auto position = static_cast<uint64_t>(index % source.num_rows);
  const RngKey key = {.seed = options_.seed,
                      .purpose = RngPurpose::kDataOrder,
                      .step = (static_cast<uint64_t>(place.source) << 32) | static_cast<uint64_t>(place.epoch)};
  place.row = options_.shuffle ? static_cast<int64_t>(permute(key, position, static_cast<uint64_t>(source.num_rows)))
                               : static_cast<int64_t>(position);
  place.first_token = place.row * options_.row_tokens;
  if (source.max_offset > 0) {
    // An index no permutation asks for: those have the round in their top byte.
    const auto bits = random_block(key, ~uint64_t{0});
    const uint64_t wide = (uint64_t{bits[1]} << 32) | bits[0];
    place.first_token += static_cast<int64_t>(wide % static_cast<uint64_t>(source.max_offset + 1));
  }
  return place;
}

Status Loader::fill(int64_t step, int64_t first_sample, int64_t num_samples, std::span<int32_t> tokens,
                    std::span<int32_t> targets, std::span<int32_t> document_start) const {
  const auto row = static_cast<size_t>(options_.row_tokens);
  const size_t size = static_cast<size_t>(num_samples) * row;
  CHECK(step >= 0 && first_sample >= 0 && first_sample + num_samples <= options_.rows_per_step);
  CHECK(tokens.size() == size && targets.size() == size && (document_start.empty() || document_start.size() == size));
  for (int64_t i = 0; i < num_samples; ++i) {
    const Place place = place_of(step * options_.rows_per_step + first_sample + i);
    const ShardSet& set = sources_[place.source].set;
    const auto row_tokens = tokens.subspan(static_cast<size_t>(i) * row, row);
    const auto row_targets = targets.subspan(static_cast<size_t>(i) * row, row);
    RETURN_IF_ERROR(set.read_tokens(place.first_token, row_tokens));
    std::copy(row_tokens.begin() + 1, row_tokens.end(), row_targets.begin());
    RETURN_IF_ERROR(set.read_tokens(place.first_token + options_.row_tokens, row_targets.last(1)));
    if (!document_start.empty()) {
      RETURN_IF_ERROR(
          set.read_document_starts(place.first_token, document_start.subspan(static_cast<size_t>(i) * row, row)));
    }
  }
  return ok_status();
}

}  // namespace colossus
