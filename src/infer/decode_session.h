// Sequences in progress: their key/value caches, and the programs that extend them, each by another number of tokens.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "device/tensor_set.h"
#include "model/model.h"

namespace colossus {

struct DecodeOptions {
  int64_t batch = 1;            // sequences side by side
  int64_t context = 0;          // most tokens of a sequence; 0: the model's
  DType compute = DType::kF32;  // bf16 halves the bytes of weights read per token
  int64_t prefill_tokens = 64;  // of a prompt taken at once, at most
  StoredForms stored = {};      // of the parameters (model/model.h)
};

class DecodeSession {
 public:
  // `parameters` holds the model's, in their stored forms; more may be in it. What is not in memory yet is read here.
  static Result<std::unique_ptr<DecodeSession>> create(Device& device, const TensorSet& parameters,
                                                       const ModelConfig& model, const DecodeOptions& options);

  // Appends tokens to each sequence (an empty list leaves a sequence as it is). Fails, changing nothing, where the
  // context would overflow.
  Status feed(std::span<const std::vector<int32_t>> tokens);
  // Of the token after the last one fed to this sequence, (V); valid until the next feed.
  std::span<const float> logits(int64_t sequence) const;

  int64_t length(int64_t sequence) const { return lengths_[static_cast<size_t>(sequence)]; }
  int64_t context() const { return context_; }
  void truncate(int64_t sequence, int64_t length);  // forgets tokens from `length` on
  int64_t cache_bytes() const { return states_.num_bytes(); }
  const Executable& decode_executable() const { return *extensions_.front().executable; }

 private:
  struct Extension {  // the program that extends sequences by up to `tokens` tokens
    int64_t tokens = 1;
    std::unique_ptr<Executable> executable;
    TensorSet inputs;
    TensorId logits;
  };

  DecodeSession() = default;
  Status compile(int64_t tokens, const TensorSet& parameters, const ModelConfig& model, const DecodeOptions& options);
  Extension& extension_for(int64_t tokens);
  // Runs one chunk: of each sequence the next `program.tokens` of `tokens` from `done` on.
  void run_chunk(Extension& program, std::span<const std::vector<int32_t>> tokens, std::span<int64_t> done);

  Device* device_ = nullptr;
  int64_t batch_ = 1, context_ = 0, cache_tokens_ = 0, vocab_size_ = 0;
  TensorSet states_;
  std::vector<Extension> extensions_;  // rising by their tokens, from 1
  std::vector<int32_t> lengths_;
  std::vector<float> logits_;        // (B, V)
  std::vector<float> chunk_logits_;  // (B, V) of the last run
  std::vector<int32_t> tokens_, positions_, last_;
};

}  // namespace colossus
