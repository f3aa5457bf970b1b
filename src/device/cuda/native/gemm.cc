#include "device/cuda/gemm.h"

#include <cublasLt.h>
#include <fmt/format.h>

#include <vector>

#include "base/check.h"
#include "device/cuda/native/shared_library.h"

namespace colossus::gpu {
namespace {

constexpr uint32_t kOperandAlignment = 16;     // bytes: of tensors and of views (cuda_executable.cc)
constexpr int64_t kWorkspaceBytes = 32 << 20;  // what NVIDIA recommends for Hopper (cuBLAS guide, 2.1.8)

struct Functions {
  decltype(cublasLtCreate)* create;
  decltype(cublasLtDestroy)* destroy;
  decltype(cublasLtMatmul)* matmul;
  decltype(cublasLtMatmulDescCreate)* desc_create;
  decltype(cublasLtMatmulDescSetAttribute)* desc_set;
  decltype(cublasLtMatrixLayoutCreate)* layout_create;
  decltype(cublasLtMatrixLayoutSetAttribute)* layout_set;
  decltype(cublasLtMatmulPreferenceCreate)* preference_create;
  decltype(cublasLtMatmulPreferenceDestroy)* preference_destroy;
  decltype(cublasLtMatmulPreferenceSetAttribute)* preference_set;
  decltype(cublasLtMatmulAlgoGetHeuristic)* heuristic;
  decltype(cublasLtGetStatusString)* status_string;
};

Result<Functions> load_functions() {
  ASSIGN_OR_RETURN(void* library, load_library("cuBLASLt", {"libcublasLt.so.13", "libcublasLt.so"}));
  Functions f;
  RETURN_IF_ERROR(find_function(library, "cublasLtCreate", f.create));
  RETURN_IF_ERROR(find_function(library, "cublasLtDestroy", f.destroy));
  RETURN_IF_ERROR(find_function(library, "cublasLtMatmul", f.matmul));
  RETURN_IF_ERROR(find_function(library, "cublasLtMatmulDescCreate", f.desc_create));
  RETURN_IF_ERROR(find_function(library, "cublasLtMatmulDescSetAttribute", f.desc_set));
  RETURN_IF_ERROR(find_function(library, "cublasLtMatrixLayoutCreate", f.layout_create));
  RETURN_IF_ERROR(find_function(library, "cublasLtMatrixLayoutSetAttribute", f.layout_set));
  RETURN_IF_ERROR(find_function(library, "cublasLtMatmulPreferenceCreate", f.preference_create));
  RETURN_IF_ERROR(find_function(library, "cublasLtMatmulPreferenceDestroy", f.preference_destroy));
  RETURN_IF_ERROR(find_function(library, "cublasLtMatmulPreferenceSetAttribute", f.preference_set));
  RETURN_IF_ERROR(find_function(library, "cublasLtMatmulAlgoGetHeuristic", f.heuristic));
  RETURN_IF_ERROR(find_function(library, "cublasLtGetStatusString", f.status_string));
  return f;
}

cudaDataType_t data_type(DType dtype) { return dtype == DType::kBF16 ? CUDA_R_16BF : CUDA_R_32F; }

struct Product {
  cublasLtMatmulDesc_t desc = nullptr;
  cublasLtMatrixLayout_t first = nullptr, second = nullptr, result = nullptr;
  cublasLtMatmulAlgo_t algorithm;
  bool has_bias = false, has_addend = false;
};

}  // namespace

struct Gemms::State {
  Functions f;
  cublasLtHandle_t handle = nullptr;
  std::byte* workspace = nullptr;
  std::map<GemmSpec, int> numbers;
  std::vector<Product> products;
  Status status;

  Status check(cublasStatus_t found, const char* call, const GemmSpec& spec) const {
    if (found == CUBLAS_STATUS_SUCCESS) return ok_status();
    return unavailable(
        fmt::format("{} of ({}, {}) x ({}, {}): {}", call, spec.m, spec.k, spec.k, spec.n, f.status_string(found)));
  }
  // cuBLASLt knows matrices by columns: a row-major (rows, columns) is its (columns, rows).
  Status make_layout(cublasLtMatrixLayout_t& layout, DType dtype, int64_t rows, int64_t columns, int64_t ld,
                     int64_t stride, const GemmSpec& spec) const {
    RETURN_IF_ERROR(check(f.layout_create(&layout, data_type(dtype), static_cast<uint64_t>(columns),
                                          static_cast<uint64_t>(rows), ld > 0 ? ld : columns),
                          "cublasLtMatrixLayoutCreate", spec));
    if (spec.batch == 1) return ok_status();
    const auto count = static_cast<int32_t>(spec.batch);
    RETURN_IF_ERROR(check(f.layout_set(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count),
                          "cublasLtMatrixLayoutSetAttribute", spec));
    return check(f.layout_set(layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride, sizeof stride),
                 "cublasLtMatrixLayoutSetAttribute", spec);
  }
  Status choose_algorithm(Product& product, const GemmSpec& spec) const;
};

Status Gemms::State::choose_algorithm(Product& product, const GemmSpec& spec) const {
  cublasLtMatmulPreference_t preference = nullptr;
  RETURN_IF_ERROR(check(f.preference_create(&preference), "cublasLtMatmulPreferenceCreate", spec));
  const auto workspace_bytes = static_cast<uint64_t>(kWorkspaceBytes);
  Status status = check(
      f.preference_set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace_bytes, sizeof workspace_bytes),
      "cublasLtMatmulPreferenceSetAttribute", spec);
  const uint32_t alignment = kOperandAlignment;
  for (const auto attribute : {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                               CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
    if (status.ok())
      status = check(f.preference_set(preference, attribute, &alignment, sizeof alignment),
                     "cublasLtMatmulPreferenceSetAttribute", spec);
  cublasLtMatmulHeuristicResult_t found;
  int num_found = 0;
  if (status.ok())
    status = check(f.heuristic(handle, product.desc, product.first, product.second, product.result, product.result,
                               preference, 1, &found, &num_found),
                   "cublasLtMatmulAlgoGetHeuristic", spec);
  f.preference_destroy(preference);
  if (!status.ok()) return status;
  if (num_found == 0)
    return unavailable(fmt::format("cuBLASLt has no algorithm for ({}, {}) x ({}, {}), {} into {}", spec.m, spec.k,
                                   spec.k, spec.n, dtype_name(spec.operands), dtype_name(spec.result)));
  product.algorithm = found.algo;
  return ok_status();
}

Gemms::Gemms() : state_(std::make_unique<State>()) {}
// The handle and the descriptors live as long as the process: the driver may be gone when statics are destroyed.
Gemms::~Gemms() = default;

Result<std::unique_ptr<Gemms>> Gemms::make() {
  std::unique_ptr<Gemms> gemms(new Gemms);
  ASSIGN_OR_RETURN(gemms->state_->f, load_functions());
  RETURN_IF_ERROR(gemms->state_->check(gemms->state_->f.create(&gemms->state_->handle), "cublasLtCreate", {}));
  ASSIGN_OR_RETURN(gemms->state_->workspace, allocate(kWorkspaceBytes));
  return gemms;
}

Result<int> Gemms::prepare(const GemmSpec& spec) {
  State& s = *state_;
  if (const auto found = s.numbers.find(spec); found != s.numbers.end()) return found->second;
  CHECK(spec.operands == DType::kBF16 || spec.result == DType::kF32);
  Product product{.has_bias = spec.has_bias, .has_addend = spec.has_addend};
  RETURN_IF_ERROR(
      s.check(s.f.desc_create(&product.desc, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescCreate", spec));
  // d^T = op(b)^T op(a)^T, and by columns a stored matrix is its own transpose.
  const cublasOperation_t first = spec.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
  const cublasOperation_t second = spec.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
  RETURN_IF_ERROR(s.check(s.f.desc_set(product.desc, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof first),
                          "cublasLtMatmulDescSetAttribute", spec));
  RETURN_IF_ERROR(s.check(s.f.desc_set(product.desc, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof second),
                          "cublasLtMatmulDescSetAttribute", spec));
  if (spec.has_bias) {
    const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    const cudaDataType_t bias_type = data_type(spec.result);
    RETURN_IF_ERROR(s.check(s.f.desc_set(product.desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue),
                            "cublasLtMatmulDescSetAttribute", spec));
    RETURN_IF_ERROR(
        s.check(s.f.desc_set(product.desc, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &bias_type, sizeof bias_type),
                "cublasLtMatmulDescSetAttribute", spec));
  }
  RETURN_IF_ERROR(s.make_layout(product.first, spec.operands, spec.transpose_b ? spec.n : spec.k,
                                spec.transpose_b ? spec.k : spec.n, spec.ld_b, spec.stride_b, spec));
  RETURN_IF_ERROR(s.make_layout(product.second, spec.operands, spec.transpose_a ? spec.k : spec.m,
                                spec.transpose_a ? spec.m : spec.k, spec.ld_a, spec.stride_a, spec));
  RETURN_IF_ERROR(s.make_layout(product.result, spec.result, spec.m, spec.n, spec.ld_d, spec.stride_d, spec));
  RETURN_IF_ERROR(s.choose_algorithm(product, spec));
  s.products.push_back(product);
  return s.numbers[spec] = static_cast<int>(s.products.size()) - 1;
}

void Gemms::run(Stream stream, int prepared, const GemmOperands& operands) {
  State& s = *state_;
  Product& product = s.products.at(static_cast<size_t>(prepared));
  CHECK(!product.has_bias || operands.bias);
  CHECK(!product.has_addend || operands.addend);
  if (product.has_bias) {
    const void* bias = operands.bias;
    s.f.desc_set(product.desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias);
  }
  const float beta = product.has_addend ? 1.0F : 0.0F;
  const std::byte* addend = product.has_addend ? operands.addend : operands.d;
  const cublasStatus_t status =
      s.f.matmul(s.handle, product.desc, &operands.alpha, operands.b, product.first, operands.a, product.second, &beta,
                 addend, product.result, operands.d, product.result, &product.algorithm, s.workspace,
                 static_cast<size_t>(kWorkspaceBytes), reinterpret_cast<cudaStream_t>(stream));
  if (status != CUBLAS_STATUS_SUCCESS && s.status.ok())
    s.status = unavailable(fmt::format("cublasLtMatmul: {}", s.f.status_string(status)));
}

Status Gemms::status() const { return state_->status; }

}  // namespace colossus::gpu
