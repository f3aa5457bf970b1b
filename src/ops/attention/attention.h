// Causal attention, grouped heads: o = softmax(mask(temperature(softcap(scale * q . k)))) v. The score matrix is never
// stored (online softmax, Milakov and Gimelshein 2018; tiles as in Dao et al. 2022). Softmax in fp32. A token at column
// t sees columns s with max(document_start[t], t - window + 1) <= s <= t. Positions are columns. Queries of some
// columns against keys of all say where they stand.
#pragma once

#include <array>

#include "program/op_interface.h"

namespace colossus {

// What one token sees of another, in all three operations.
struct AttentionAttributes {
  int64_t num_heads = 0;        // H
  int64_t num_kv_heads = 0;     // K, divides H: query head h reads key/value head h / (H / K)
  int64_t head_dim = 0;         // D
  double scale = 1;             // of q . k
  double softcap = 0;           // c: s = c tanh(s / c); 0 is none
  int64_t window = 0;           // a token sees itself and the window - 1 before it; 0 is all
  int64_t temperature_len = 0;  // n: s *= log(p) / log(n) for positions p > n, after the cap; 0 is none
  template <class V>
  void attributes(V& v) const {
    v("num_heads", num_heads);
    v("num_kv_heads", num_kv_heads);
    v("head_dim", head_dim);
    v("scale", scale);
    v("softcap", softcap);
    v("window", window);
    v("temperature_len", temperature_len);
  }
};

struct Attention : AttentionAttributes {
  static constexpr std::string_view kName = "attention";
  enum In { kQ, kK, kV, kDocumentStart, kPositions };
  static constexpr std::array kInputs = {
      Operand{"q"},  // (B, T, H * D)
      Operand{"k"},  // (B, S, K * D), column s in row s; S = T without positions
      Operand{"v"},  // (B, S, K * D)
      Operand{"document_start",
              OperandKind::kOptional},               // (B, T) i32: first column of the document that query t belongs to
      Operand{"positions", OperandKind::kOptional},  // (B, T) i32: the column of query t, in [0, S); t when absent
  };
  enum Out { kO, kLse };
  static constexpr std::array kOutputs = {
      Operand{"o"},    // (B, T, H * D)
      Operand{"lse"},  // (B, H, T) f32: log sum exp of the final scores
  };
};

struct AttentionGrad : AttentionAttributes {
  static constexpr std::string_view kName = "attention_grad";
  enum In { kDo, kQ, kK, kV, kO, kLse, kDocumentStart, kPositions };
  static constexpr std::array kInputs = {
      Operand{"do"},                                      // (B, T, H * D)
      Operand{"q"},                                       // (B, T, H * D)
      Operand{"k"},                                       // (B, S, K * D)
      Operand{"v"},                                       // (B, S, K * D)
      Operand{"o"},                                       // (B, T, H * D)
      Operand{"lse"},                                     // (B, H, T) f32
      Operand{"document_start", OperandKind::kOptional},  // (B, T) i32
      Operand{"positions", OperandKind::kOptional},       // (B, T) i32
  };
  enum Out { kDq, kDk, kDv };
  static constexpr std::array kOutputs = {
      Operand{"dq"},  // (B, T, H * D)
      Operand{"dk"},  // (B, S, K * D)
      Operand{"dv"},  // (B, S, K * D)
  };
};

// Token t of sequence b stands at position lengths[b] + t and sees the cache up to itself.
struct AttentionCached : AttentionAttributes {
  static constexpr std::string_view kName = "attention_cached";
  enum In { kQ, kK, kV, kKCache, kVCache, kLengths };
  static constexpr std::array kInputs = {
      Operand{"q"},                               // (B, T, H * D)
      Operand{"k"},                               // (B, T, K * D), rotated
      Operand{"v"},                               // (B, T, K * D)
      Operand{"k_cache", OperandKind::kMutated},  // (B, S, K * D): rows lengths[b] .. lengths[b]+T-1 are written first
      Operand{"v_cache", OperandKind::kMutated},  // (B, S, K * D)
      Operand{"lengths"},                         // (B) i32: tokens in the cache before this call; lengths[b] + T <= S
  };
  enum Out { kO };
  static constexpr std::array kOutputs = {
      Operand{"o"},  // (B, T, H * D)
  };
};

Status infer(const Attention& op, Inference& io);
Cost cost(const Attention& op, const OpShapes& shapes);
void adjoint(const Attention& op, Adjoint& a);
// Some of the heads, of the tokens of all ranks of the tensor axis; on the context axis the rank's queries meet the
// keys of all.
void partition(const Attention& op, Partition& p);
Status infer(const AttentionGrad& op, Inference& io);
Cost cost(const AttentionGrad& op, const OpShapes& shapes);
Status infer(const AttentionCached& op, Inference& io);
Cost cost(const AttentionCached& op, const OpShapes& shapes);

}  // namespace colossus
