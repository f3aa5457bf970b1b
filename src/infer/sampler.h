// From logits to a token.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "io/fields.h"

namespace colossus {

struct SamplerOptions {
  double temperature = 0.8;  // 0: always the most likely token
  int64_t top_k = 0;         // only the k most likely; 0: all
  double top_p = 1;          // only the fewest whose probability sums to p (Holtzman et al. 2019)
  double min_p = 0;          // only those with at least min_p of the most likely one's probability (Nguyen et al. 2024)
  double repetition_penalty = 1;    // divides positive, multiplies negative logits of tokens seen (Keskar et al. 2019)
  int64_t repetition_window = 256;  // of the last so many tokens
  int64_t seed = 1;

  void visit_fields(FieldVisitor& v);
};

// Applied in this order: repetition penalty, temperature, top_k, top_p, min_p; then one draw. The draw is a function of
// (seed, sequence, position): the same prompt gives the same text, whatever is generated beside it.
class Sampler {
 public:
  explicit Sampler(const SamplerOptions& options) : options_(options) {}

  // history: the tokens before, prompt included. A logit that is not a number is never chosen; if none is, token 0 is.
  int32_t sample(std::span<const float> logits, std::span<const int32_t> history, int64_t sequence);

 private:
  struct Candidate {
    float logit;
    int32_t token;
  };

  void collect(std::span<const float> logits, std::span<const int32_t> history);
  int32_t draw(double uniform);

  SamplerOptions options_;
  std::vector<Candidate> candidates_;
  std::vector<double> weights_;
};

}  // namespace colossus
