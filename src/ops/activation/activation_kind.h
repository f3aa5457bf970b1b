// Nonlinearities of feed-forward blocks.
#pragma once

#include <string_view>

namespace colossus {

enum class ActivationKind {
  kNone,
  kGeluTanh,  // 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))   Hendrycks and Gimpel 2016
  kSilu,      // x sigmoid(x)
  kRelu2,     // max(x, 0)^2                                       So et al. 2021 (Primer)
};

constexpr std::string_view activation_name(ActivationKind kind) {
  switch (kind) {
    case ActivationKind::kNone: return "none";
    case ActivationKind::kGeluTanh: return "gelu_tanh";
    case ActivationKind::kSilu: return "silu";
    case ActivationKind::kRelu2: return "relu2";
  }
  return "?";
}

}  // namespace colossus
